// JSON Schemas in few words, and small values that fit them.

const MAX_DEPTH = 6;

function resolve(schema) {
  if (!schema?.$ref) {
    return schema ?? {};
  }
  const [, , kind, name] = schema.$ref.split('/');
  return { ...apiDocument.components[kind][name], ...schema };
}

/** Return a small value that fits a schema, to begin from. */
function exampleOf(schema, depth = 0) {
  const known = resolve(schema);
  if (known.default !== undefined) {
    return known.default;
  }
  if (known.enum || known.const !== undefined) {
    return known.const ?? known.enum[0];
  }
  if (known.anyOf) {
    return exampleOf(known.anyOf[0], depth);
  }
  switch (known.type) {
    case 'object': {
      const names = known.required ?? Object.keys(known.properties ?? {}).slice(0, 1);
      if (depth >= MAX_DEPTH) {
        return {};
      }
      return Object.fromEntries(names.map(n => [n, exampleOf(known.properties[n], depth + 1)]));
    }
    case 'array':
      return [];
    case 'integer':
    case 'number':
      return known.minimum ?? 0;
    case 'boolean':
      return false;
    case 'string':
      return '';
    default:
      return null;
  }
}

/** Return a schema in few words: `{ name: string, version: integer }`. */
function shapeOf(schema, depth = 0) {
  const known = resolve(schema);
  const pad = '  '.repeat(depth + 1);
  if (known.enum) {
    return known.enum.map(value => JSON.stringify(value)).join(' | ');
  }
  if (known.anyOf) {
    return known.anyOf.map(one => shapeOf(one, depth)).join(' | ');
  }
  if (known.type === 'array') {
    return `[${known.items ? shapeOf(known.items, depth) : 'any'}, …]`;
  }
  if (known.type !== 'object') {
    return known.format ?? known.type ?? 'any';
  }
  if (!known.properties || depth >= MAX_DEPTH) {
    return '{…}';
  }
  const required = known.required ?? [];
  const lines = Object.entries(known.properties).map(
    ([name, member]) =>
      `${pad}${name}${required.includes(name) ? '' : '?'}: ${shapeOf(member, depth + 1)}`
  );
  return `{\n${lines.join('\n')}\n${'  '.repeat(depth)}}`;
}

function typesOf(answer) {
  return Object.keys(answer.content ?? {}).join(', ');
}
