// The routes of openapi.json for reading.

import { element } from "./elements.js";

const site = location.origin;
document.getElementById("example").textContent = [
  `curl -s ${site}/jobs -H 'Content-Type: application/json' \\`,
  `  -d '{"kind": "samples", "statements": {"IMI": 0.5, "SR": 1}, "n": 2, "seed": 7}'`,
  `curl -s ${site}/jobs/ID`,
  `curl -s -OJ '${site}/jobs/ID/records/0/file?format=edf'`,
].join("\n");

const description = await (await fetch("/openapi.json")).json();
for (const [path, methods] of Object.entries(description.paths)) {
  for (const [method, route] of Object.entries(methods)) {
    const heading = element("h2", {}, element("code", {}, `${method.toUpperCase()} ${path}`));
    const fields = [...(route.parameters ?? []).map(ofParameter), ...bodies(route).flatMap(ofBody)];
    const parts = [heading, element("p", {}, route.description ?? route.summary)];
    document.getElementById("routes").append(element("article", {}, ...parts, ...(fields.length ? [table(fields)] : [])));
  }
}

function resolved(schema) {
  return schema.$ref ? description.components.schemas[schema.$ref.split("/").at(-1)] : schema;
}

function bodies(route) {
  return Object.values(route.requestBody?.content ?? {}).flatMap(({ schema }) => {
    const whole = resolved(schema);
    return (whole.oneOf ?? [whole]).map(resolved);
  });
}

function ofParameter(parameter) {
  return [parameter.name, parameter.in, typeOf(parameter.schema), parameter.required, parameter.description];
}

function ofBody(schema) {
  return Object.entries(schema.properties ?? {}).map(([name, field]) => [
    name, `body of ${schema.title}`, typeOf(field), schema.required?.includes(name), field.description,
  ]);
}

function typeOf(given) {
  const schema = resolved(given);
  if (schema.anyOf) return schema.anyOf.map(typeOf).join(" or ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.join(", ");
  return schema.type === "array" ? `list of ${schema.items ? typeOf(schema.items) : "numbers"}` : schema.type ?? "";
}

function table(rows) {
  const cells = rows.map(([name, where, type, required, text]) => element("tr", {},
    element("th", { scope: "row" }, element("code", {}, name), required ? "" : " (optional)"),
    element("td", {}, where), element("td", {}, type), element("td", {}, text ?? "")));
  const head = element("tr", {}, ...["field", "in", "type", "meaning"].map((word) => element("th", { scope: "col" }, word)));
  return element("table", {}, element("thead", {}, head), element("tbody", {}, ...cells));
}
