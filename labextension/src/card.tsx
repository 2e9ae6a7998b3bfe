import { TranslationBundle } from '@jupyterlab/translation';
import { checkIcon, copyIcon } from '@jupyterlab/ui-components';
import React from 'react';

import { IModel } from './api';
import { ago, exactly } from './time';

const COPIED_MS = 1_500;

interface IModelCardProps {
  readonly model: IModel;
  readonly url: string;
  readonly nowMs: number;
  readonly trans: TranslationBundle;
  readonly onCopy: (text: string) => void;
}

/** One model: its name, the version that answers, its URL and its calls; all shown as text. */
export function ModelCard(props: IModelCardProps): React.ReactElement {
  const { model, url, nowMs, trans, onCopy } = props;
  return (
    <li className="jp-mlserve-card" data-model={model.name}>
      <div className="jp-mlserve-card-head">
        <span
          className="jp-mlserve-name"
          title={`${model.owner}~${model.name}`}
        >
          {model.name}
        </span>
        <Visibility model={model} trans={trans} />
        <Version model={model} trans={trans} />
      </div>
      {model.description !== '' && (
        <p className="jp-mlserve-description">{model.description}</p>
      )}
      <div className="jp-mlserve-url-row">
        <code className="jp-mlserve-url" title={url} tabIndex={0}>
          <bdi dir="ltr">{url}</bdi>
        </code>
        <CopyButton name={model.name} url={url} trans={trans} onCopy={onCopy} />
      </div>
      <div className="jp-mlserve-facts">
        <span className="jp-mlserve-calls">
          {trans._n(
            '%2 call',
            '%2 calls',
            model.n_predictions,
            model.n_predictions.toLocaleString()
          )}
        </span>
        <LastCall model={model} nowMs={nowMs} trans={trans} />
      </div>
    </li>
  );
}

interface IModelProps {
  readonly model: IModel;
  readonly trans: TranslationBundle;
}

function Visibility({ model, trans }: IModelProps): React.ReactElement | null {
  if (model.visibility === 'private') {
    return null;
  }
  const isPublic = model.visibility === 'public';
  return (
    <span
      className="jp-mlserve-visibility"
      title={
        isPublic
          ? trans.__('All who are signed in may call it')
          : trans.__('Shared with %1', model.shared_with.join(', '))
      }
    >
      {isPublic ? trans.__('public') : trans.__('shared')}
    </span>
  );
}

function Version({ model, trans }: IModelProps): React.ReactElement {
  if (model.default_version === null) {
    return (
      <span
        className="jp-mlserve-version"
        data-active="false"
        title={trans.__('All versions are archived: calls are refused')}
      >
        {trans.__('archived')}
      </span>
    );
  }
  return (
    <span
      className="jp-mlserve-version"
      data-active="true"
      title={trans._n(
        'Version %2 answers; there is %1 version',
        'Version %2 answers; there are %1 versions',
        model.n_versions,
        model.default_version
      )}
    >
      v{model.default_version}
    </span>
  );
}

function LastCall({
  model,
  nowMs,
  trans
}: IModelProps & { readonly nowMs: number }): React.ReactElement {
  if (model.last_called_at === null) {
    return (
      <span className="jp-mlserve-last-call">{trans.__('not called yet')}</span>
    );
  }
  return (
    <time
      className="jp-mlserve-last-call"
      dateTime={model.last_called_at}
      title={exactly(model.last_called_at)}
    >
      {trans.__('last call %1', ago(model.last_called_at, nowMs))}
    </time>
  );
}

interface ICopyButtonProps {
  readonly name: string;
  readonly url: string;
  readonly trans: TranslationBundle;
  readonly onCopy: (text: string) => void;
}

function CopyButton(props: ICopyButtonProps): React.ReactElement {
  const { name, url, trans, onCopy } = props;
  const [isCopied, setIsCopied] = React.useState(false);
  React.useEffect(() => {
    if (!isCopied) {
      return;
    }
    const timer = window.setTimeout(() => {
      setIsCopied(false);
    }, COPIED_MS);
    return () => {
      window.clearTimeout(timer);
    };
  }, [isCopied]);
  const Icon = isCopied ? checkIcon : copyIcon;
  return (
    <button
      type="button"
      className="jp-mlserve-icon-button jp-mlserve-copy"
      title={isCopied ? trans.__('Copied') : trans.__('Copy URL')}
      aria-label={trans.__('Copy the URL of %1', name)}
      onClick={() => {
        onCopy(url);
        setIsCopied(true);
      }}
    >
      <Icon.react tag="span" />
    </button>
  );
}
