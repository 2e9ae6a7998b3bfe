const UNITS: readonly (readonly [Intl.RelativeTimeFormatUnit, number])[] = [
  ['year', 31_536_000],
  ['month', 2_592_000],
  ['day', 86_400],
  ['hour', 3_600],
  ['minute', 60]
];

/** Say how long ago a time was, such as `3 minutes ago`; `just now` under ten seconds. */
export function ago(iso: string, nowMs: number, locale?: string): string {
  const seconds = Math.max(0, (nowMs - Date.parse(iso)) / 1000);
  const format = new Intl.RelativeTimeFormat(locale, { numeric: 'auto' });
  for (const [unit, size] of UNITS) {
    if (seconds >= size) {
      return format.format(-Math.floor(seconds / size), unit);
    }
  }
  return seconds < 10
    ? format.format(0, 'second')
    : format.format(-Math.floor(seconds), 'second');
}

/** Say a time exactly, in the reader's zone. */
export function exactly(iso: string, locale?: string): string {
  return new Intl.DateTimeFormat(locale, {
    dateStyle: 'full',
    timeStyle: 'long'
  }).format(new Date(iso));
}
