/** The ids of the commands that the extension adds. */
export const CommandIDs = {
  open: 'mlserve:open',
  refresh: 'mlserve:refresh'
} as const;
