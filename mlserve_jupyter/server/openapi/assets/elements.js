// Elements of text: nothing here makes them of strings of HTML.

function quoted(words) {
  return `'${words.replaceAll("'", `'\\''`)}'`;
}

/** Make an element with the words of a text in which `backticks` mark code. */
function markdown(tag, words) {
  const pieces = (words ?? '').split('`');
  return make(tag, {}, ...pieces.map((piece, i) => (i % 2 ? make('code', {}, piece) : piece)));
}

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

function showText(element, words) {
  element.replaceChildren(...markdown('span', words).childNodes);
}

function find(id) {
  return document.getElementById(id);
}
