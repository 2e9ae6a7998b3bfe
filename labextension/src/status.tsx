import { TranslationBundle } from '@jupyterlab/translation';
import { VDomRenderer } from '@jupyterlab/ui-components';
import React from 'react';

import { ModelsFeed } from './feed';
import { mlserveIcon } from './icon';

/** The status bar's item: how many models are deployed, and how many alerts fire. A click opens the panel. */
export class StatusItem extends VDomRenderer<ModelsFeed> {
  constructor(
    feed: ModelsFeed,
    private readonly _trans: TranslationBundle,
    private readonly _open: () => void
  ) {
    super(feed);
    this.addClass('jp-mlserve-status');
  }

  protected override render(): React.ReactElement {
    const { models, alerts, failure } = this.model;
    const trans = this._trans;
    const count = models?.length ?? 0;
    const alarm =
      alerts.length > 0 && trans._n('%1 alert', '%1 alerts', alerts.length);
    const text =
      models === null
        ? trans.__('models')
        : trans._n('%1 model', '%1 models', count);
    const title =
      failure === null
        ? [trans._n('%1 deployed model', '%1 deployed models', count), alarm]
            .filter(Boolean)
            .join(', ')
        : failure.message;
    return (
      <button
        type="button"
        className="jp-mlserve-status-button"
        title={title}
        aria-label={title}
        data-failed={failure !== null}
        onClick={this._open}
      >
        <mlserveIcon.react tag="span" className="jp-mlserve-status-icon" />
        <span className="jp-mlserve-status-text">
          {text}
          {alarm && (
            <>
              {' · '}
              <span className="jp-mlserve-status-alerts">{alarm}</span>
            </>
          )}
        </span>
      </button>
    );
  }
}
