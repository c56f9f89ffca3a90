// The API's own description as a page: groups, parameters, answers with examples, and a form that asks.

import { ask } from "./api.js";
import { fill, make, part } from "./dom.js";
import { watchForKeys } from "./key-dialog.js";

/** So much of an answer is shown. */
const SHOWN = 20_000;

async function show() {
  try {
    const document = await ask("/api/v1/openapi.json");
    fill(part("reference"),
      make("section", { class: "card" }, make("h1", {}, `${document.info.title} ${document.info.version}`),
        prose(document.info.description)),
      ...groups(document).map((group) => section(group, document)));
  } catch (error) {
    fill(part("reference"), make("p", { class: "empty problem" }, error.message));
  }
}

/** @returns {Array<{name: string, description: string, operations: any[]}>} in the order of the document's tags */
function groups(document) {
  const described = new Map((document.tags ?? []).map((tag) => [tag.name, tag.description ?? ""]));
  const found = new Map([...described.keys()].map((name) => [name, []]));
  for (const [path, methods] of Object.entries(document.paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      const name = operation.tags?.[0] ?? "Others";
      found.set(name, [...(found.get(name) ?? []), { ...operation, path, method }]);
    }
  }
  return [...found].map(([name, operations]) => ({ name, description: described.get(name) ?? "", operations }))
    .filter((group) => group.operations.length || group.description);
}

/** Text of the document: what stands between backticks is code. @param {string} text @param {string} style */
const prose = (text, style = "prose") => make("p", { class: style },
  ...(text ?? "").split("`").map((piece, number) => (number % 2 ? make("code", {}, piece) : piece)));

const section = (group, document) => make("section", { class: "card" }, make("h2", {}, group.name),
  prose(group.description, "prose quiet"),
  ...group.operations.map((operation) => entry(operation, document)));

function entry(operation, document) {
  const parameters = (operation.parameters ?? []).map((one) => resolved(one, document));
  const summary = make("summary", {}, make("span", { class: "method" }, operation.method.toUpperCase()),
    make("code", {}, operation.path), ` ${operation.summary ?? ""}`);
  return make("details", {}, summary, prose(operation.description),
    parameters.length ? parameterList(parameters) : null,
    operation.method === "get" && !operation.path.includes("/stream/") ? form(operation, parameters) : null,
    ...answers(operation, document));
}

const resolved = (one, document) => (one?.$ref
  ? one.$ref.replace("#/", "").split("/").reduce((at, name) => at?.[name], document) ?? {} : one);

const parameterList = (parameters) => make("dl", { class: "keys" }, ...parameters.flatMap((one) => [
  make("dt", {}, make("code", {}, one.name), one.required ? " *" : ""),
  make("dd", {}, ...prose(one.description).childNodes, make("span", { class: "quiet" }, ` ${kind(one)}`)),
]));

function kind(parameter) {
  const schema = parameter.schema ?? {};
  const allowed = schema.enum ?? schema.anyOf?.find((one) => one.enum)?.enum;
  return `${parameter.in}${allowed ? `; one of ${allowed.join(", ")}` : ""}${
    schema.default === undefined || schema.default === null ? "" : `; by default ${schema.default}`}`;
}

function example(parameter) {
  const schema = parameter.schema ?? {};
  const first = Object.values(parameter.examples ?? {})[0];
  return parameter.example ?? first?.value ?? (parameter.required ? schema.examples?.[0] : undefined) ?? "";
}

function form(operation, parameters) {
  const asked = parameters.filter((one) => one.in === "path" || one.in === "query");
  const output = make("pre", { hidden: true, tabindex: "0" });
  const send = async (event) => {
    event.preventDefault();
    const given = new FormData(/** @type {HTMLFormElement} */ (event.target));
    let path = operation.path;
    const query = new URLSearchParams();
    for (const one of asked) {
      const value = String(given.get(one.name) ?? "");
      if (one.in === "path") path = path.replace(`{${one.name}}`, encodeURIComponent(value));
      else if (value) query.set(one.name, value);
    }
    const address = query.size ? `${path}?${query}` : path;
    output.hidden = false;
    output.textContent = `GET ${address}\n…`;
    output.textContent = `GET ${address}\n${await answerOf(address)}`;
  };
  return make("form", { onsubmit: send }, ...asked.map((one) => make("label", {}, make("span", {}, one.name),
    make("input", { name: one.name, required: one.in === "path", value: one.in === "path" ? example(one) : "",
      placeholder: one.in === "query" ? example(one) : null }))), make("button", {}, "Ask"), output);
}

async function answerOf(address) {
  try {
    const answer = await fetch(address, { headers: { accept: "application/json, */*;q=0.5" } });
    const type = answer.headers.get("content-type") ?? "";
    const head = `${answer.status} ${answer.statusText} · ${type}\n\n`;
    if (!/json|text|csv/.test(type)) return `${head}${(await answer.arrayBuffer()).byteLength} bytes`;
    const text = await answer.text();
    const shown = type.includes("json") && text.length < SHOWN ? JSON.stringify(JSON.parse(text), null, 1) : text;
    return head + (shown.length > SHOWN ? `${shown.slice(0, SHOWN)}\n… ${text.length} characters` : shown);
  } catch {
    return "the service does not answer";
  }
}

function answers(operation, document) {
  return Object.entries(operation.responses ?? {}).map(([status, given]) => {
    const answer = resolved(given, document);
    const contents = Object.entries(answer.content ?? {});
    const shown = contents.map(([type, content]) => [type, content.example ?? Object.values(content.examples ?? {})[0]?.value])
      .find(([, value]) => value !== undefined);
    return make("div", {}, make("p", {}, make("b", {}, status), ` ${answer.description ?? ""} `,
      make("span", { class: "quiet" }, contents.map(([type]) => type).join(", "))),
    shown ? make("pre", {}, typeof shown[1] === "string" ? shown[1] : JSON.stringify(shown[1], null, 1)) : null);
  });
}

watchForKeys(() => location.reload());
show();
