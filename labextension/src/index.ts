import {
  ILayoutRestorer,
  JupyterFrontEnd,
  JupyterFrontEndPlugin
} from '@jupyterlab/application';
import { ICommandPalette } from '@jupyterlab/apputils';
import { IStatusBar } from '@jupyterlab/statusbar';
import {
  ITranslator,
  nullTranslator,
  TranslationBundle
} from '@jupyterlab/translation';
import { refreshIcon } from '@jupyterlab/ui-components';

import { CommandIDs } from './commands';
import { ModelsFeed } from './feed';
import { mlserveIcon } from './icon';
import { ModelsPanel } from './panel';
import { StatusItem } from './status';

const PANEL_RANK = 400;

/** Shows the deployed models: a side panel, a status item, and commands for both. */
const plugin: JupyterFrontEndPlugin<void> = {
  id: 'mlserve-jupyter:plugin',
  description: 'Shows the models that are deployed on this Jupyter server.',
  autoStart: true,
  optional: [ICommandPalette, ILayoutRestorer, IStatusBar, ITranslator],
  activate: (
    app: JupyterFrontEnd,
    palette: ICommandPalette | null,
    restorer: ILayoutRestorer | null,
    statusBar: IStatusBar | null,
    translator: ITranslator | null
  ): void => {
    const trans = (translator ?? nullTranslator).load('mlserve_jupyter');
    const feed = new ModelsFeed(app.serviceManager.serverSettings);

    const panel = new ModelsPanel(feed, trans);
    app.shell.add(panel, 'right', { rank: PANEL_RANK, type: 'Models' });
    restorer?.add(panel, panel.id);

    addCommands(app, palette, trans, panel, feed);
    if (statusBar !== null) {
      const open = (): void => {
        void app.commands.execute(CommandIDs.open);
      };
      statusBar.registerStatusItem('mlserve-jupyter:status', {
        item: new StatusItem(feed, trans, open),
        align: 'left',
        rank: 100
      });
    }
    void app.restored.then(() => {
      feed.start();
    });
  }
};

function addCommands(
  app: JupyterFrontEnd,
  palette: ICommandPalette | null,
  trans: TranslationBundle,
  panel: ModelsPanel,
  feed: ModelsFeed
): void {
  app.commands.addCommand(CommandIDs.open, {
    label: trans.__('Show Deployed Models'),
    caption: trans.__('Open the panel with the models deployed on this server'),
    icon: mlserveIcon,
    execute: () => {
      app.shell.activateById(panel.id);
      void feed.refresh();
    }
  });
  app.commands.addCommand(CommandIDs.refresh, {
    label: trans.__('Refresh Deployed Models'),
    icon: refreshIcon,
    execute: () => feed.refresh()
  });
  const category = trans.__('MLServe');
  for (const command of [CommandIDs.open, CommandIDs.refresh]) {
    palette?.addItem({ command, category });
  }
}

export default plugin;
