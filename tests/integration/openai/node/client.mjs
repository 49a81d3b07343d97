// Makes one call with OpenAI's Node client, as it comes, and prints what came of it.
// In: on stdin {base, key, call: "chat.completions.create", args, leaveAfter, beside}; CLIENT_HOME has the installed package.
// Out: one line {attempts, answers, waits, value | chunks | left | error}. `beside`: a chat that somebody else makes before
// the first attempt and before the second.
import { createRequire } from "node:module";
import { text } from "node:stream/consumers";

const OpenAI = createRequire(process.env.CLIENT_HOME + "/")("openai");
const plan = JSON.parse(await text(process.stdin));
const told = { attempts: 0, answers: [], waits: [] };

const timer = globalThis.setTimeout;
globalThis.setTimeout = (run, delay, ...more) => {
  told.waits.push(delay);
  return timer(run, delay, ...more);
};

async function beside() {
  const headers = { authorization: `Bearer ${plan.key}` };
  const body = JSON.stringify(plan.beside);
  const answer = await fetch(plan.base + "/chat/completions", { method: "POST", headers, body });
  await answer.text();
  if (answer.status !== 200) throw new Error(`beside: ${answer.status}`);
}

async function counted(url, options) {
  told.attempts += 1;
  if (told.attempts <= 2 && plan.beside) await beside();
  const answer = await fetch(url, options);
  told.answers.push({ status: answer.status, headers: Object.fromEntries(answer.headers) });
  return answer;
}

const api = new OpenAI({ apiKey: plan.key, baseURL: plan.base, fetch: counted });
try {
  let owner = api;
  const names = plan.call.split(".");
  const last = names.pop();
  for (const name of names) owner = owner[name];
  const answer = await owner[last](...plan.args);
  if (plan.args[0]?.stream) {
    told.chunks = [];
    for await (const chunk of answer) {
      told.chunks.push(chunk);
      if (told.chunks.length === plan.leaveAfter) break;
    }
    told.left = told.chunks.length === plan.leaveAfter;
  } else if (last === "list") {
    told.value = [];
    for await (const one of answer) told.value.push(one);
  } else {
    told.value = answer;
  }
} catch (error) {
  const { status, code, type, param, message, requestID } = error;
  told.error = { class: error.constructor.name, api: error instanceof OpenAI.APIError, status, code, type, param, message };
  told.error.request_id = requestID;
  told.error.body = error.error;
}
process.stdout.write(JSON.stringify(told) + "\n");
