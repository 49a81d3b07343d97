// OpenAI's Node client.
import { QUESTION, SCHEMA, load, serve } from "./serve.mjs";

const { OpenAI } = await load("openai");
const { zodResponseFormat } = await load("openai/helpers/zod");
const { z } = await load("zod");

const Forecast = z.object({ city: z.string(), days: z.number().int() });
const messages = [{ role: "user", content: QUESTION }];
const TOOLS = [{ type: "function", function: { name: "weather", parameters: SCHEMA } }];
const client = (plan) => new OpenAI({ baseURL: plan.base, apiKey: plan.key });
const ask = (plan, more) => client(plan).chat.completions.create({ model: plan.model, messages, ...more });
const used = (usage) => [usage.prompt_tokens, usage.completion_tokens];

async function plain(plan) {
  const answer = await ask(plan);
  return { text: answer.choices[0].message.content, usage: used(answer.usage) };
}

async function stream(plan) {
  const chunks = [];
  for await (const chunk of await ask(plan, { stream: true, stream_options: { include_usage: true } })) chunks.push(chunk);
  const text = chunks.flatMap((chunk) => chunk.choices.map((choice) => choice.delta.content ?? "")).join("");
  return { text, usage: used(chunks.at(-1).usage), pieces: chunks.length };
}

async function tools(plan) {
  const { message } = (await ask(plan, { tools: TOOLS })).choices[0];
  const [call] = message.tool_calls;
  const result = { role: "tool", tool_call_id: call.id, content: "sunny" };
  const end = await ask(plan, { tools: TOOLS, messages: [...messages, message, result] });
  const tool = { name: call.function.name, arguments: JSON.parse(call.function.arguments) };
  return { tool, text: end.choices[0].message.content };
}

async function structured(plan) {
  const format = zodResponseFormat(Forecast, "forecast");
  const answer = await client(plan).chat.completions.parse({ model: plan.model, messages, response_format: format });
  return { object: answer.choices[0].message.parsed };
}

async function twice(plan) {
  await plain(plan);
  return plain(plan);
}

async function embeddings(plan) {
  return { vector: (await client(plan).embeddings.create({ model: plan.model, input: ["a", "b"] })).data[1].embedding };
}

async function models(plan) {
  const found = [];
  for await (const model of client(plan).models.list()) found.push(model.id);
  return { models: found };
}

async function disconnect(plan) {
  let left = 0;
  for await (const _ of await ask(plan, { stream: true })) {
    left += 1;
    if (left === 3) break;
  }
  return { left };
}

const described = ({ constructor, status, code, message }) => ({ class: constructor.name, status, code, message });
await serve(
  ["openai"],
  {
    plain, stream, tools, "structured output": structured, 401: plain, 403: plain, "429 burst": twice, "429 quota": twice,
    embeddings, models, disconnect,
  },
  described,
);
