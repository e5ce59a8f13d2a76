// Changes to the page that leave alone what is as it should be: a selection, the focus and an opened table stay.

/** Gives an element its text. */
export function say(element, words) {
  if (element.textContent !== words) element.textContent = words;
}

/** An element with classes, and with text or children. */
export function element(name, classes = '', ...children) {
  const made = document.createElement(name);
  if (classes) made.className = classes;
  made.append(...children);
  return made;
}

/**
 * Gives a table's body (or head) its rows. A cell is text, or `{ words, tag, kind, scope, title, fill }`, where `fill` draws
 * into the cell what is not text.
 */
export function rows(body, wanted, usual = 'td') {
  while (body.rows.length > wanted.length) body.deleteRow(-1);
  wanted.forEach((cells, index) => {
    const row = body.rows[index] ?? body.insertRow();
    while (row.cells.length > cells.length) row.deleteCell(-1);
    cells.forEach((cell, place) => {
      const { words = '', tag = usual, kind = '', scope, title, fill } = typeof cell === 'object' && cell !== null ? cell : { words: cell };
      let found = row.cells[place];
      if (found?.localName !== tag) {
        const made = document.createElement(tag);
        if (found) found.replaceWith(made);
        else row.append(made);
        found = made;
      }
      if (found.className !== kind) found.className = kind;
      if (scope) found.scope = scope;
      if (found.title !== (title ?? '')) found.title = title ?? '';
      if (fill) fill(found);
      else say(found, String(words));
    });
  });
}

/** Gives a list of parts their keys: each has an element of its own, made once and filled every time. */
export function parts(place, keys, make, fill) {
  const there = new Map([...place.children].map((child) => [child.dataset.key, child]));
  keys.forEach((key, index) => {
    let part = there.get(key);
    if (!part) {
      part = make(key);
      part.dataset.key = key;
    }
    there.delete(key);
    if (place.children[index] !== part) place.insertBefore(part, place.children[index] ?? null);
    fill(part, key, index);
  });
  for (const child of there.values()) child.remove();
}
