// Reads openapi.json and shows each route. The page has this behind the other scripts, as one.

const apiDocument = await (await fetch('openapi.json')).json();
const root = new URL('.', location.href);

showHead();
showOperations();

function showHead() {
  showText(find('description'), apiDocument.info.description);
  const schemes = apiDocument.components.securitySchemes;
  for (const name of Object.keys(schemes)) {
    find('scheme').append(make('option', { value: name }, name));
  }
  const describe = () => showText(find('scheme-description'), schemes[find('scheme').value].description);
  find('scheme').addEventListener('change', describe);
  find('credential').addEventListener('submit', event => event.preventDefault());
  describe();
}

function showOperations() {
  const main = find('operations');
  main.replaceChildren();
  for (const { name } of apiDocument.tags) {
    const id = `tag-${name}`;
    find('tags').append(make('a', { href: `#${id}` }, name));
    main.append(make('h2', { id }, name));
    for (const [path, item] of Object.entries(apiDocument.paths)) {
      for (const [method, operation] of Object.entries(item)) {
        if (operation.tags?.[0] === name) {
          const parameters = [...(item.parameters ?? []), ...(operation.parameters ?? [])];
          main.append(new Operation(path, method, operation, parameters).element);
        }
      }
    }
  }
  main.setAttribute('aria-busy', 'false');
  document.getElementById(decodeURIComponent(location.hash.slice(1)))?.setAttribute('open', '');
}
