// The cue explorer: what people and models answer to one cue. Everything is in the page; nothing is fetched.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("explorer-data").textContent);
  const [input, pick, say, near, show] = ["cue", "pick", "say", "near", "show"].map((id) => document.getElementById(`explorer-${id}`));
  const SPLITS = { test: "held out: the models were asked", valid: "validation: used to choose settings", train: "taught: the models were not asked", excluded: "left out of every split" };
  const fold = (text) => text.normalize("NFKC").trim().toLocaleLowerCase("en");

  // el("td", {class: "x"}, child, ...): an element; text is never read as HTML.
  function el(name, attributes = {}, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  }

  const known = new Map();
  data.concepts.forEach((concept, place) => {
    for (const name of [concept.name, ...Object.values(concept.cues)]) if (!known.has(fold(name))) known.set(fold(name), place);
  });
  const title = (concept) => [...new Set([concept.name, ...Object.values(concept.cues)])].join(" · ");

  function word([text, count, gloss], culture, total, stage) {
    const hit = stage !== "people" && count > 0;
    const made = el(hit ? "mark" : "span", { lang: data.cultures[culture].lang }, text);
    const item = el("li", {}, made);
    if (gloss) item.append(el("span", { class: "gloss" }, ` ${gloss}`));
    if (stage === "people") {
      const share = total ? count / total : 0;
      item.append(el("span", { class: "share" }, ` ${Math.round(100 * share)} %`));
      item.style.setProperty("--share", share);
    } else item.append(el("span", { class: hit ? "said" : "sr" }, hit ? ` ${count} of ${total}` : " nobody said it"));
    return item;
  }

  function rate(culture, words) {
    const own = data.ratings[culture];
    return Object.keys(data.scales).map((name, place) => {
      const values = words.map(([text]) => own[text]?.[place]).filter((value) => value != null);
      return values.length ? [values.reduce((sum, value) => sum + value, 0) / values.length, values.length] : null;
    });
  }

  function side(concept, culture) {
    const { label, lang } = data.cultures[culture];
    const cue = concept.cues[culture];
    const people = concept.people[culture] ?? { n: 0, words: [] };
    const box = el("section", { "aria-label": label }, el("h2", {}, `${label}: `, el("span", { lang }, cue)));
    const rows = [["people", "people", people.words]];
    for (const [key, name] of data.stages) if (concept.models[culture]?.[key]) rows.push([key, name, concept.models[culture][key]]);
    for (const [key, name, words] of rows) {
      const hits = words.filter(([, count]) => count).length;
      const told = key === "people" ? `${people.n} answers; the strongest ${words.length}` : `${hits} of ${words.length} said by people too`;
      box.append(el("h3", {}, name, el("span", { class: "told" }, ` ${told}`)));
      box.append(words.length ? el("ol", { class: key === "people" ? "people" : "model" }, ...words.map((one) => word(one, culture, people.n, key))) : el("p", {}, "no answer"));
    }
    const names = Object.entries(data.scales);
    const table = el("table", {}, el("caption", {}, "Mean rating of these words, and how many have one"));
    table.append(el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "words of"), ...names.map(([name, [low, high]]) => el("th", { scope: "col" }, `${name}, ${low} to ${high}`)))));
    const body = el("tbody");
    for (const [, name, words] of rows) body.append(el("tr", {}, el("th", { scope: "row" }, name), ...rate(culture, words).map((one) => el("td", {}, one ? `${one[0].toFixed(1)} (${one[1]} of ${words.length})` : "none rated"))));
    table.append(body);
    if (names.length) box.append(el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `Ratings, ${label}` }, table));
    return box;
  }

  function open(place, { move = true } = {}) {
    const concept = data.concepts[place];
    near.replaceChildren();
    show.replaceChildren(...Object.keys(concept.cues).map((culture) => side(concept, culture)));
    say.textContent = `${title(concept)}, ${SPLITS[concept.split]}.`;
    pick.value = String(place);
    if (move) history.replaceState(null, "", `#${encodeURIComponent(concept.name)}`);
  }

  function search(text) {
    const wanted = fold(text);
    if (!wanted) return;
    if (known.has(wanted)) return open(known.get(wanted));
    const starts = [...known].filter(([name]) => name.startsWith(wanted));
    const found = [...new Map([...starts, ...[...known].filter(([name]) => name.includes(wanted))].map(([, place]) => [place, place])).keys()].slice(0, 8);
    show.replaceChildren();
    say.textContent = found.length ? `No cue is called “${text}”. Near it:` : `No cue is called “${text}”, nor has that in its name. There are ${data.concepts.length} in the list.`;
    near.replaceChildren(...found.map((place) => {
      const button = el("button", { type: "button" }, title(data.concepts[place]));
      button.addEventListener("click", () => { input.value = data.concepts[place].name; open(place); });
      return el("li", {}, button);
    }));
  }

  document.getElementById("explorer-cues").append(...data.concepts.map((concept) => el("option", { value: concept.name }, title(concept))));
  for (const split of Object.keys(SPLITS)) {
    const own = data.concepts.map((concept, place) => [concept, place]).filter(([concept]) => concept.split === split);
    if (own.length) pick.append(el("optgroup", { label: SPLITS[split] }, ...own.map(([concept, place]) => el("option", { value: place }, title(concept)))));
  }
  input.addEventListener("input", () => search(input.value));
  document.getElementById("explorer-form").addEventListener("submit", (event) => { event.preventDefault(); search(input.value); });
  pick.addEventListener("change", () => { input.value = data.concepts[pick.value].name; open(Number(pick.value)); });
  document.getElementById("explorer-other").addEventListener("click", () => {
    const held = data.concepts.map((concept, place) => [concept.split, place]).filter(([split]) => split === "test");
    const place = held[Math.floor(Math.random() * held.length)]?.[1] ?? 0;
    input.value = data.concepts[place].name;
    open(place);
  });

  const asked = () => known.get(fold(decodeURIComponent(location.hash.slice(1))));
  addEventListener("hashchange", () => { if (asked() !== undefined) open(asked(), { move: false }); });
  const first = asked() ?? known.get(fold(data.first)) ?? data.concepts.findIndex((concept) => concept.split === "test");
  open(Math.max(first, 0), { move: false });
})();
