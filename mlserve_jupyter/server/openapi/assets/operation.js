// One method of a route, with a form to try it.

const JSON_TYPE = 'application/json';
const MULTIPART = 'multipart/form-data';
const MAX_SHOWN = 200000;

/** One method of a route: its description, and a form to try it. */
class Operation {
  constructor(path, method, operation, parameters) {
    Object.assign(this, { path, method, operation, parameters });
    this.inputs = new Map();
    this.element = make('details', { class: 'operation', id: operation.operationId });
    this.element.append(this.summary());
    this.element.addEventListener('toggle', () => this.fill(), { once: true });
  }

  summary() {
    const isOpen = this.operation.security.length === 0;
    return make(
      'summary',
      {},
      make('span', { class: `method ${this.method}` }, this.method.toUpperCase()),
      make('span', { class: 'path' }, this.path),
      make('span', { class: 'dim' }, this.operation.summary),
      ...(isOpen ? [make('span', { class: 'open' }, 'open to anybody')] : [])
    );
  }

  /** Build the inside when it is opened for the first time. */
  fill() {
    this.answer = make('div', { class: 'answer', 'aria-live': 'polite' });
    this.button = make('button', { type: 'submit', class: 'send' }, 'Send');
    const buttons = make('div', { class: 'buttons' }, this.button);
    if (this.isPredict()) {
      const example = make('button', { type: 'button' }, 'Fill in an example of this model');
      example.addEventListener('click', () => this.fillExample());
      buttons.append(example);
    }
    const form = make('form', {}, ...this.parameterFields(), ...this.bodyFields(), buttons);
    form.addEventListener('submit', event => {
      event.preventDefault();
      this.send();
    });
    const inside = make('div', { class: 'inside' }, markdown('p', this.operation.description));
    inside.append(form, this.answer, make('h3', {}, 'Answers'), this.answersTable());
    this.element.append(inside);
  }

  isPredict() {
    return this.path === '/api/v1/predict/{model}';
  }

  parameterFields() {
    if (this.parameters.length === 0) {
      return [];
    }
    const fields = this.parameters.map(parameter => {
      const input = inputFor(parameter);
      this.inputs.set(parameter, input);
      const note = parameter.description ? ` ${parameter.description}` : '';
      const name = make('span', {}, make('code', {}, parameter.name));
      name.append(parameter.required ? ' (required)' : '', ...markdown('span', note).childNodes);
      return make('label', {}, name, input);
    });
    return [make('h3', {}, 'Parameters'), make('div', { class: 'fields' }, ...fields)];
  }

  bodyFields() {
    const content = this.operation.requestBody?.content;
    if (!content) {
      return [];
    }
    this.contentType = make('select', { 'aria-label': 'Content type' });
    for (const type of Object.keys(content)) {
      this.contentType.append(make('option', { value: type }, type));
    }
    this.bodyPlace = make('div', {});
    const show = () => this.showBody(content[this.contentType.value].schema);
    this.contentType.addEventListener('change', show);
    show();
    return [make('h3', {}, 'Body'), this.contentType, this.bodyPlace];
  }

  /** Show what a body of the chosen content type is made of: text, a file, or parts. */
  showBody(schema) {
    const type = this.contentType.value;
    this.parts = new Map();
    if (type === MULTIPART) {
      const properties = resolve(schema).properties;
      for (const [name, part] of Object.entries(properties)) {
        this.parts.set(name, part.contentMediaType ? fileInput() : jsonInput(part));
      }
    } else if (type === JSON_TYPE) {
      this.parts.set('body', jsonInput(schema));
    } else {
      this.parts.set('body', schema?.type === 'string' ? make('textarea') : fileInput());
    }
    const labels = [...this.parts].map(([name, input]) => make('label', {}, name, input));
    this.bodyPlace.replaceChildren(...labels);
  }

  body() {
    const type = this.contentType?.value;
    if (type === undefined) {
      return { headers: {} };
    }
    if (type !== MULTIPART) {
      return { headers: { 'Content-Type': type }, body: valueOf(this.parts.get('body')) };
    }
    const form = new FormData();
    for (const [name, input] of this.parts) {
      const value = valueOf(input);
      form.append(name, typeof value === 'string' ? new Blob([value], { type: JSON_TYPE }) : value);
    }
    return { headers: {}, body: form };
  }

  url() {
    let path = this.path.slice(1);
    const query = new URLSearchParams();
    for (const [parameter, input] of this.inputs) {
      if (parameter.in === 'path') {
        path = path.replace(`{${parameter.name}}`, encodeURIComponent(input.value));
      } else if (input.value !== '') {
        query.set(parameter.name, input.value);
      }
    }
    const url = new URL(path, root);
    url.search = query;
    return url;
  }

  async send() {
    this.button.disabled = true;
    this.answer.replaceChildren(make('p', { class: 'dim' }, 'Waiting for the answer…'));
    const url = this.url();
    const started = performance.now();
    try {
      const { headers, body } = this.body();
      const method = this.method.toUpperCase();
      const response = await call(url, { method, headers, body });
      const bytes = await response.blob();
      const took = Math.round(performance.now() - started);
      this.answer.replaceChildren(...(await shownAnswer(response, bytes, took)));
      this.answer.append(make('h3', {}, 'curl'), make('pre', {}, this.curl(url)));
    } catch (error) {
      this.answer.replaceChildren(make('p', { class: 'status bad' }, `No answer: ${error.message}`));
    } finally {
      this.button.disabled = false;
    }
  }

  /** Take the example of the model that was named, and the content type that it is in. */
  async fillExample() {
    const model = [...this.inputs].find(([parameter]) => parameter.name === 'model')[1].value;
    const version = [...this.inputs].find(([parameter]) => parameter.name === 'version')[1].value;
    const url = new URL(`api/v1/models/${encodeURIComponent(model)}/openapi.json`, root);
    url.search = version ? new URLSearchParams({ version }) : '';
    const response = await call(url, { method: 'GET', headers: {} });
    const described = await response.json();
    if (!response.ok) {
      this.answer.replaceChildren(make('p', { class: 'status bad' }, described.message));
      return;
    }
    const [item] = Object.values(described.paths);
    const content = item.post.requestBody.content[JSON_TYPE];
    this.contentType.value = JSON_TYPE;
    this.showBody(content.schema);
    const rows = content.example ?? { instances: [] };
    this.parts.get('body').value = JSON.stringify(rows, null, 2);
  }

  curl(url) {
    const scheme = apiDocument.components.securitySchemes[find('scheme').value];
    const words = ['curl', '-X', this.method.toUpperCase(), quoted(url.href)];
    if (this.operation.security.length > 0) {
      const prefix = credentialPrefix(find('scheme').value, scheme);
      words.push('-H', `"${scheme.name ?? 'Authorization'}: ${prefix}$MLSERVE_KEY"`);
    }
    for (const [name, input] of this.parts ?? []) {
      const value = input.type === 'file' ? `@${input.files[0]?.name ?? 'FILE'}` : input.value;
      if (this.contentType.value === MULTIPART) {
        words.push('-F', quoted(`${name}=${value}`));
      } else {
        words.push('-H', quoted(`Content-Type: ${this.contentType.value}`));
        words.push('--data-binary', quoted(value));
      }
    }
    return words.join(' ');
  }

  answersTable() {
    const rows = Object.entries(this.operation.responses).map(([status, answer]) => {
      const known = resolve(answer);
      const schema = known.content?.[JSON_TYPE]?.schema;
      const codes = schema?.properties?.code?.enum;
      const shape = codes ? codes.join(', ') : schema ? shapeOf(schema) : typesOf(known);
      const cell = make('td', {}, markdown('div', known.description));
      if (shape) {
        cell.append(make(codes ? 'code' : 'pre', {}, shape));
      }
      return make('tr', {}, make('td', { class: 'status' }, status), cell);
    });
    return make('table', {}, make('tbody', {}, ...rows));
  }
}

/** Call the server with the credential that was typed; without one, as the browser would. */
async function call(url, { method, headers, body }) {
  const secret = find('secret').value.trim();
  const name = find('scheme').value;
  const scheme = apiDocument.components.securitySchemes[name];
  if (secret) {
    headers[scheme.name ?? 'Authorization'] = credentialPrefix(name, scheme) + secret;
    return fetch(url, { method, headers, body, credentials: 'omit' });
  }
  const xsrf = document.cookie.match(/(?:^|; )_xsrf=([^;]*)/);
  if (xsrf) {
    headers['X-XSRFToken'] = decodeURIComponent(xsrf[1]);
  }
  return fetch(url, { method, headers, body });
}

function credentialPrefix(name, scheme) {
  return scheme.type === 'http' ? 'Bearer ' : name === 'jupyter' ? 'token ' : '';
}

async function shownAnswer(response, bytes, took) {
  const kind = response.ok ? 'good' : 'bad';
  const status = `${response.status} ${response.statusText}`;
  const type = response.headers.get('Content-Type') ?? '';
  const head = make(
    'p',
    {},
    make('span', { class: `status ${kind}` }, status),
    make('span', { class: 'dim' }, ` in ${took} ms, ${bytes.size} bytes, `),
    make('code', {}, response.headers.get('X-Request-Id') ?? '')
  );
  if (bytes.size === 0) {
    return [head];
  }
  if (!type.startsWith(JSON_TYPE) && !type.startsWith('text/')) {
    return [head, make('p', { class: 'dim' }, `A body of ${type}, which is not shown.`)];
  }
  let shown = await bytes.text();
  if (type.startsWith(JSON_TYPE) && shown.length <= MAX_SHOWN) {
    shown = JSON.stringify(JSON.parse(shown), null, 2);
  }
  const more = shown.length > MAX_SHOWN ? '\n… (cut here)' : '';
  return [head, make('pre', { class: 'received' }, shown.slice(0, MAX_SHOWN) + more)];
}

function inputFor(parameter) {
  const choices = parameter.schema.enum;
  const name = { 'aria-label': parameter.name };
  if (choices) {
    const empty = parameter.required ? [] : [''];
    return make('select', name, ...[...empty, ...choices].map(v => make('option', { value: v }, v)));
  }
  const placeholder = parameter.schema.default ?? parameter.schema.format ?? '';
  const input = make('input', { ...name, type: 'text', spellcheck: 'false', placeholder });
  input.required = Boolean(parameter.required);
  return input;
}

function jsonInput(schema) {
  const input = make('textarea', { spellcheck: 'false' });
  input.value = JSON.stringify(exampleOf(schema), null, 2);
  return input;
}

function fileInput() {
  return make('input', { type: 'file' });
}

function valueOf(input) {
  return input.type === 'file' ? (input.files[0] ?? new Blob()) : input.value;
}
