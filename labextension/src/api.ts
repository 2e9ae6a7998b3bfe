import { URLExt } from '@jupyterlab/coreutils';
import { ServerConnection } from '@jupyterlab/services';

/** A model and where it answers, as the server describes it. */
export interface IModel {
  readonly id: string;
  readonly name: string;
  readonly owner: string;
  readonly description: string;
  readonly created_at: string;
  readonly updated_at: string;
  /** The version that answers a call that names none; null where all are archived. */
  readonly default_version: number | null;
  readonly n_versions: number;
  /** Path of the predict route on this server, with its base URL. */
  readonly predict_path: string;
  /** Time of the last call in UTC; null if there was none. */
  readonly last_called_at: string | null;
  readonly n_predictions: number;
  readonly visibility: 'private' | 'shared' | 'public';
  /** Names of users; empty for those who may not change the model. */
  readonly shared_with: readonly string[];
}

/** What is out of its limits now, as the server describes it. */
export interface IAlert {
  readonly id: string;
  /** A model as `owner~name`, a key, or a disk. */
  readonly title: string;
  /** All of it in a sentence. */
  readonly text: string;
  /** As of the last look. */
  readonly value: number;
  readonly limit: number;
  /** Time of the first look that found it over its limit, in UTC. */
  readonly began_at: string;
}

interface IPage<T> {
  readonly items: readonly T[];
  readonly next_cursor: string | null;
}

interface IErrorBody {
  readonly code: string;
  readonly message: string;
  readonly request_id: string;
}

/** The server refused a call; the message is the server's own. */
export class APIError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string
  ) {
    super(message);
    this.name = 'APIError';
  }
}

/**
 * Return all models that the caller may see.
 *
 * @throws APIError where the server refuses the call.
 * @throws ServerConnection.NetworkError where no server answers.
 */
export async function listModels(
  settings: ServerConnection.ISettings
): Promise<IModel[]> {
  return all<IModel>(settings, 'models', {});
}

/**
 * Return the firing alerts of the caller's models and keys, those that began last first;
 * administrators get all.
 *
 * @throws APIError where the server refuses the call.
 * @throws ServerConnection.NetworkError where no server answers.
 * @throws DOMException where it does not answer in time.
 */
export async function listFiringAlerts(
  settings: ServerConnection.ISettings,
  timeoutMs: number
): Promise<IAlert[]> {
  const signal = AbortSignal.timeout(timeoutMs);
  return all<IAlert>(settings, 'alerts', { state: 'firing' }, { signal });
}

/** Return the absolute URL at which a model answers. */
export function predictURL(
  settings: ServerConnection.ISettings,
  model: IModel
): string {
  return new URL(model.predict_path, settings.baseUrl).href;
}

/** Read a list page after page. */
async function all<T>(
  settings: ServerConnection.ISettings,
  path: string,
  query: Readonly<Record<string, string>>,
  init: RequestInit = {}
): Promise<T[]> {
  const items: T[] = [];
  let cursor: string | null = null;
  do {
    const asked: Record<string, string> =
      cursor === null ? query : { ...query, cursor };
    const page: IPage<T> = await get<IPage<T>>(
      settings,
      path + URLExt.objectToQueryString(asked),
      init
    );
    items.push(...page.items);
    cursor = page.next_cursor;
  } while (cursor !== null);
  return items;
}

async function get<T>(
  settings: ServerConnection.ISettings,
  path: string,
  init: RequestInit
): Promise<T> {
  const url = URLExt.join(settings.baseUrl, 'mlserve/api/v1', path);
  const response = await ServerConnection.makeRequest(
    url,
    { ...init, method: 'GET' },
    settings
  );
  if (!response.ok) {
    throw await refusal(response);
  }
  return (await response.json()) as T;
}

async function refusal(response: Response): Promise<APIError> {
  const text = await response.text();
  let body: Partial<IErrorBody> = {};
  try {
    body = JSON.parse(text) as Partial<IErrorBody>;
  } catch (error) {
    if (!(error instanceof SyntaxError)) {
      throw error;
    }
  }
  return new APIError(
    response.status,
    body.code ?? 'unknown',
    body.message ?? unexplained(response)
  );
}

/** Say what an answer means that did not come from the server extension. */
function unexplained(response: Response): string {
  return response.status === 404
    ? 'The server extension mlserve_jupyter is not enabled on this Jupyter server. ' +
        'Run "jupyter server extension enable mlserve_jupyter" and start the server again.'
    : `The server answered ${response.status} ${response.statusText}.`;
}
