// The Vercel AI SDK with its provider for OpenAI-compatible servers.
import { QUESTION, SCHEMA, load, serve } from "./serve.mjs";

const { Output, embedMany, generateText, jsonSchema, stepCountIs, streamText, tool } = await load("ai");
const { createOpenAICompatible } = await load("@ai-sdk/openai-compatible");
const { z } = await load("zod");

const provider = (plan) =>
  createOpenAICompatible({
    name: "aigw", baseURL: plan.base, apiKey: plan.key, includeUsage: true, supportsStructuredOutputs: true,
  });
const asked = (plan) => ({ model: provider(plan)(plan.model), prompt: QUESTION });
const used = (usage) => [usage.inputTokens, usage.outputTokens];

async function plain(plan) {
  const { text, usage } = await generateText(asked(plan));
  return { text, usage: used(usage) };
}

async function stream(plan) {
  const result = streamText(asked(plan));
  const pieces = [];
  for await (const piece of result.textStream) pieces.push(piece);
  return { text: pieces.join(""), usage: used(await result.usage), pieces: pieces.length };
}

async function tools(plan) {
  const called = [];
  const weather = tool({
    description: "The weather of a city.",
    inputSchema: jsonSchema(SCHEMA),
    execute: async (input) => {
      called.push({ name: "weather", arguments: input });
      return "sunny";
    },
  });
  const { text } = await generateText({ ...asked(plan), tools: { weather }, stopWhen: stepCountIs(3) });
  return { tool: called.length === 1 ? called[0] : called, text };
}

async function structured(plan) {
  const schema = z.object({ city: z.string(), days: z.number().int() });
  const { output } = await generateText({ ...asked(plan), output: Output.object({ schema }) });
  return { object: output };
}

async function twice(plan) {
  await plain(plan);
  return plain(plan);
}

async function embeddings(plan) {
  const model = provider(plan).embeddingModel(plan.model);
  const { embeddings } = await embedMany({ model, values: ["a", "b"] });
  return { vector: embeddings[1] };
}

async function disconnect(plan) {
  const abort = new AbortController();
  let left = 0;
  for await (const _ of streamText({ ...asked(plan), abortSignal: abort.signal }).textStream) {
    left += 1;
    if (left === 3) abort.abort();
    if (left === 3) break;
  }
  return { left };
}

// After its retries the SDK throws an error of its own, which holds the last one of the server.
function described(error) {
  const last = error.lastError ?? error;
  return { class: error.name, status: last.statusCode, code: last.data?.error?.code, message: last.message };
}

await serve(
  ["ai", "@ai-sdk/openai-compatible"],
  {
    plain, stream, tools, "structured output": structured, 401: plain, 403: plain, "429 burst": twice, "429 quota": twice,
    embeddings, disconnect,
  },
  described,
);
