import { Clipboard } from '@jupyterlab/apputils';
import { TranslationBundle } from '@jupyterlab/translation';
import { VDomRenderer, refreshIcon } from '@jupyterlab/ui-components';
import React from 'react';

import { Alerts } from './alerts';
import { IModel, predictURL } from './api';
import { ModelsFeed } from './feed';
import { mlserveIcon } from './icon';
import { ModelCard } from './card';

/** The side panel: what is out of its limits, what is deployed, and where it answers. */
export class ModelsPanel extends VDomRenderer<ModelsFeed> {
  constructor(
    feed: ModelsFeed,
    private readonly _trans: TranslationBundle
  ) {
    super(feed);
    this.id = 'mlserve-jupyter-panel';
    this.addClass('jp-mlserve-panel');
    this.title.icon = mlserveIcon;
    this.title.caption = _trans.__('Deployed Models');
    this.node.setAttribute('role', 'region');
    this.node.setAttribute('aria-label', _trans.__('Deployed Models'));
  }

  protected override render(): React.ReactElement {
    const { models, alerts, alertsFailure, failure, isRefreshing } = this.model;
    const trans = this._trans;
    return (
      <>
        <header className="jp-mlserve-header">
          <h2 className="jp-mlserve-heading">{trans.__('Deployed Models')}</h2>
          {models !== null && models.length > 0 && (
            <span className="jp-mlserve-count">{models.length}</span>
          )}
          <button
            type="button"
            className="jp-mlserve-icon-button jp-mlserve-refresh"
            title={trans.__('Refresh')}
            aria-label={trans.__('Refresh deployed models')}
            aria-busy={isRefreshing}
            onClick={this._refresh}
          >
            <refreshIcon.react tag="span" />
          </button>
        </header>
        {failure !== null && (
          <Failure
            message={failure.message}
            trans={trans}
            onRetry={this._refresh}
          />
        )}
        <Alerts
          alerts={alerts}
          isStale={failure !== null || alertsFailure !== null}
          failure={failure === null ? alertsFailure : null}
          nowMs={Date.now()}
          trans={trans}
        />
        {models === null && failure === null && (
          <p className="jp-mlserve-note">{trans.__('Asking the server…')}</p>
        )}
        {models?.length === 0 && failure === null && <Empty trans={trans} />}
        {models !== null && models.length > 0 && this._list(models)}
      </>
    );
  }

  private _list(models: readonly IModel[]): React.ReactElement {
    const nowMs = Date.now();
    return (
      <ul
        className="jp-mlserve-list"
        aria-label={this._trans.__('Models')}
        data-stale={this.model.failure !== null}
      >
        {models.map(model => (
          <ModelCard
            key={model.id}
            model={model}
            url={predictURL(this.model.settings, model)}
            nowMs={nowMs}
            trans={this._trans}
            onCopy={Clipboard.copyToSystem}
          />
        ))}
      </ul>
    );
  }

  private readonly _refresh = (): void => {
    void this.model.refresh();
  };
}

interface IFailureProps {
  readonly message: string;
  readonly trans: TranslationBundle;
  readonly onRetry: () => void;
}

function Failure({
  message,
  trans,
  onRetry
}: IFailureProps): React.ReactElement {
  return (
    <div className="jp-mlserve-failure" role="alert">
      <p>{message}</p>
      <button type="button" className="jp-mlserve-button" onClick={onRetry}>
        {trans.__('Try again')}
      </button>
    </div>
  );
}

function Empty({
  trans
}: {
  readonly trans: TranslationBundle;
}): React.ReactElement {
  return (
    <div className="jp-mlserve-empty">
      <mlserveIcon.react tag="span" className="jp-mlserve-empty-icon" />
      <p className="jp-mlserve-empty-title">
        {trans.__('Nothing is deployed yet')}
      </p>
      <p>
        {trans.__(
          'Fit a model in a notebook, say clf, then run this in the next cell:'
        )}
      </p>
      <pre className="jp-mlserve-code" tabIndex={0}>
        {'%load_ext mlserve_jupyter\n%mlserve deploy clf'}
      </pre>
    </div>
  );
}
