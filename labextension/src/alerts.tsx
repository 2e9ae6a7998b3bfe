import { TranslationBundle } from '@jupyterlab/translation';
import React from 'react';

import { IAlert } from './api';
import { IFailure } from './feed';
import { ago, exactly } from './time';

interface IAlertsProps {
  readonly alerts: readonly IAlert[];
  /** Whether they are not of now. */
  readonly isStale: boolean;
  /** Why they could not be read, where nothing else says so. */
  readonly failure: IFailure | null;
  readonly nowMs: number;
  readonly trans: TranslationBundle;
}

/** What is out of its limits, in the server's own words; all shown as text. */
export function Alerts(props: IAlertsProps): React.ReactElement {
  const { alerts, isStale, failure, nowMs, trans } = props;
  return (
    <div className="jp-mlserve-alerts">
      {/* It is there without an alert, too: readers of screens say what changes in it. */}
      <p className="jp-mlserve-alerts-count" role="status">
        {alerts.length > 0 && trans._n('%1 alert', '%1 alerts', alerts.length)}
      </p>
      {alerts.length > 0 && (
        <ul
          className="jp-mlserve-alerts-list"
          role="list"
          aria-label={trans.__('Alerts')}
          data-stale={isStale}
          tabIndex={0}
        >
          {alerts.map(alert => (
            <Alert key={alert.id} alert={alert} nowMs={nowMs} trans={trans} />
          ))}
        </ul>
      )}
      {failure !== null && (
        <p className="jp-mlserve-alerts-failure">
          {trans.__('The alerts could not be read: %1', failure.message)}
        </p>
      )}
    </div>
  );
}

interface IAlertProps {
  readonly alert: IAlert;
  readonly nowMs: number;
  readonly trans: TranslationBundle;
}

function Alert({ alert, nowMs, trans }: IAlertProps): React.ReactElement {
  const isOver = alert.value > alert.limit;
  return (
    <li className="jp-mlserve-alert" data-over={isOver}>
      <div className="jp-mlserve-card-head">
        <span className="jp-mlserve-name" title={alert.title}>
          {alert.title}
        </span>
        <span
          className="jp-mlserve-alert-state"
          title={
            isOver
              ? trans.__('Over its limit in the last look')
              : trans.__('Within its limit in the last look, and not for long')
          }
        >
          {isOver ? trans.__('over limit') : trans.__('easing')}
        </span>
      </div>
      <p className="jp-mlserve-alert-text">
        {alert.text}{' '}
        <time
          className="jp-mlserve-alert-began"
          dateTime={alert.began_at}
          title={exactly(alert.began_at)}
        >
          ({ago(alert.began_at, nowMs)})
        </time>
      </p>
    </li>
  );
}
