// The loop of a client's program: one case per line of standard input, its result per line of standard output (python/serve.py
// describes both). A module of the installed packages is found from CLIENT_HOME.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const home = process.env.CLIENT_HOME + "/";
const require = createRequire(home);

export const QUESTION = "How is the weather?";
export const SCHEMA = {
  type: "object",
  properties: { city: { type: "string" }, unit: { type: "string", enum: ["celsius", "kelvin"] } },
  required: ["city", "unit"],
  additionalProperties: false,
};

export const load = (name) => import(pathToFileURL(require.resolve(name)));
const version = (name) => JSON.parse(readFileSync(`${home}node_modules/${name}/package.json`, "utf8")).version;
const tell = (seen) => process.stdout.write("@@" + JSON.stringify(seen) + "\n");

export async function serve(packages, cases, described) {
  tell({ versions: Object.fromEntries(packages.map((name) => [name, version(name)])) });
  for await (const line of createInterface({ input: process.stdin })) {
    const plan = JSON.parse(line);
    try {
      tell(await cases[plan.case](plan));
    } catch (error) {
      process.stderr.write(`${error.stack}\n`);
      tell({ error: described(error) });
    }
  }
}
