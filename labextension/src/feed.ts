import { ServerConnection } from '@jupyterlab/services';
import { VDomModel } from '@jupyterlab/ui-components';
import { Poll } from '@lumino/polling';

import { APIError, IAlert, IModel, listFiringAlerts, listModels } from './api';

const INTERVAL_MS = 5_000;
const LONGEST_INTERVAL_MS = 60_000;
const ALERTS_TIMEOUT_MS = 10_000;

/** Why a list could not be read. */
export interface IFailure {
  readonly message: string;
  /** The stable code of the server's error, or `unreachable`. */
  readonly code: string;
}

/**
 * The deployed models and the alerts that fire, kept fresh.
 *
 * Asks every five seconds while the page can be seen, less and less often while the server does not
 * answer, and not at all while the page is hidden.
 */
export class ModelsFeed extends VDomModel {
  constructor(readonly settings: ServerConnection.ISettings) {
    super();
    this._poll = new Poll({
      auto: false,
      name: 'mlserve-jupyter:models',
      factory: () => this._fetch(),
      frequency: {
        interval: INTERVAL_MS,
        backoff: true,
        max: LONGEST_INTERVAL_MS
      },
      standby: 'when-hidden'
    });
  }

  /** The models as last read; null before the first answer. */
  get models(): readonly IModel[] | null {
    return this._models;
  }

  /** Why the last read failed; null if it did not. */
  get failure(): IFailure | null {
    return this._failure;
  }

  /** The firing alerts as last read; empty where the server knows none. */
  get alerts(): readonly IAlert[] {
    return this._alerts;
  }

  /** Why the last read of the alerts failed; null if it did not. */
  get alertsFailure(): IFailure | null {
    return this._alertsFailure;
  }

  /** Whether a refresh that a person asked for is on its way. */
  get isRefreshing(): boolean {
    return this._isRefreshing;
  }

  /** Begin to ask. */
  start(): void {
    void this._poll.start();
  }

  /** Ask now. */
  async refresh(): Promise<void> {
    this._isRefreshing = true;
    this.stateChanged.emit();
    await this._poll.refresh();
    await this._poll.tick.catch(() => {
      // The failure is part of the state already; see `_fetch`.
    });
    this._isRefreshing = false;
    this._emit();
  }

  override dispose(): void {
    if (!this.isDisposed) {
      this._poll.dispose();
      super.dispose();
    }
  }

  private async _fetch(): Promise<void> {
    try {
      this._models = await listModels(this.settings);
      this._failure = null;
    } catch (error) {
      this._failure = describe(error);
      throw error;
    } finally {
      this._emit();
    }
    await this._fetchAlerts();
    this._emit();
  }

  /** Read the alerts; the models are shown whatever becomes of it. */
  private async _fetchAlerts(): Promise<void> {
    try {
      this._alerts = await listFiringAlerts(this.settings, ALERTS_TIMEOUT_MS);
      this._alertsFailure = null;
    } catch (error) {
      const isUnknown = error instanceof APIError && error.status === 404;
      if (isUnknown) {
        // A server of an earlier release has models and no alerts.
        this._alerts = [];
      }
      this._alertsFailure = isUnknown ? null : describe(error);
    }
  }

  private _emit(): void {
    if (!this.isDisposed) {
      this.stateChanged.emit();
    }
  }

  private readonly _poll: Poll;
  private _models: readonly IModel[] | null = null;
  private _failure: IFailure | null = null;
  private _alerts: readonly IAlert[] = [];
  private _alertsFailure: IFailure | null = null;
  private _isRefreshing = false;
}

function describe(error: unknown): IFailure {
  if (error instanceof APIError) {
    return { message: error.message, code: error.code };
  }
  if (error instanceof ServerConnection.NetworkError) {
    return {
      message: 'The Jupyter server does not answer.',
      code: 'unreachable'
    };
  }
  if (error instanceof DOMException && error.name === 'TimeoutError') {
    return {
      message: 'The Jupyter server did not answer in time.',
      code: 'deadline_exceeded'
    };
  }
  return {
    message: error instanceof Error ? error.message : String(error),
    code: 'unknown'
  };
}
