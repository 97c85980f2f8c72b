// The official client of OpenAI, unmodified, against a node's endpoint.
import OpenAI from "openai";
import { createHash } from "node:crypto";

const url = process.argv[2];
const MODEL = "SmolLM2-135M-Instruct";
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "unused", maxRetries: 0 });
const messages = [{ role: "user", content: "Name a colour." }];
const chat = (more = {}) => client.chat.completions.create({ model: MODEL, messages, max_tokens: 8, ...more });

function equal(actual, expected, what) {
  if (actual !== expected) throw new Error(`${what}: expected ${expected}, got ${actual}`);
}

async function refused(kind, promise) {
  try {
    await promise;
  } catch (error) {
    if (error instanceof kind) return error;
    throw new Error(`expected ${kind.name}, got ${error.constructor.name}: ${error.message}`);
  }
  throw new Error(`expected ${kind.name}, got an answer`);
}

const checks = {
  chat: async () => {
    const answer = await chat();
    equal(answer.object, "chat.completion", "object");
    equal(typeof answer.choices[0].message.content, "string", "content");
    equal(answer.zerog.receiptHash.length, 66, "receipt hash");
  },
  streamed_chat: async () => {
    const whole = await chat();
    let text = "";
    let proof;
    for await (const chunk of await chat({ stream: true })) {
      text += chunk.choices[0].delta.content ?? "";
      proof = chunk.zerog ?? proof;
    }
    equal(text, whole.choices[0].message.content, "text");
    equal(proof.receipt.traceRoot, whole.zerog.receipt.traceRoot, "trace root");
  },
  stream_helper: async () => {
    const final = await client.chat.completions
      .stream({ model: MODEL, messages, max_tokens: 8, stream_options: { include_usage: true } })
      .finalChatCompletion();
    equal(final.usage.total_tokens, final.usage.prompt_tokens + final.usage.completion_tokens, "usage");
  },
  completion: async () => {
    const answer = await client.completions.create({ model: MODEL, prompt: "One, two,", max_tokens: 3 });
    equal(answer.object, "text_completion", "object");
  },
  models: async () => {
    const found = [];
    for await (const model of client.models.list()) found.push(model.id);
    equal(found.join(), `${MODEL},all-MiniLM-L6-v2`, "models");
    equal((await client.models.retrieve(MODEL)).zerog.class, "exact", "class");
  },
  signature: async () => {
    const response = await chat().asResponse();
    const body = Buffer.from(await response.arrayBuffer());
    const signature = await (await fetch(`${url}/v1/signature/${response.headers.get("zg-res-key")}`)).json();
    equal(signature.text.split(":")[1], createHash("sha256").update(body).digest("hex"), "hash of the response");
  },
  unknown_model: async () => {
    const error = await refused(OpenAI.NotFoundError, chat({ model: "gpt-9" }));
    equal(error.code, "model_not_found", "code");
  },
  context_exceeded: async () => {
    const long = [{ role: "user", content: "word ".repeat(3000) }];
    const error = await refused(OpenAI.BadRequestError, chat({ messages: long }));
    equal(error.code, "context_length_exceeded", "code");
  },
  unsupported_parameter: async () => {
    const error = await refused(OpenAI.BadRequestError, chat({ n: 2 }));
    equal(error.param, "n", "param");
  },
};

for (const [check, run] of Object.entries(checks)) {
  const result = await run().then(
    () => ({ check, ok: true, error: null }),
    (error) => ({ check, ok: false, error: String(error.stack ?? error) }),
  );
  console.log(JSON.stringify(result));
}
