// Code that sends the same inputs with each client.

const python = (value) => JSON.stringify(value);
const shell = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

// -- curl ------------------------------------------------------------------------------------------------------------

const request = ({ server, key }, path) => `curl ${shell(server + path)} \\\n  -H ${shell(`Authorization: Bearer ${key}`)}`;

const curlJson = (facts, path, body) => `${request(facts, path)} \\
  -H 'Content-Type: application/json' \\
  -d ${shell(JSON.stringify(body))}`;

const curlEncode = (facts) => curlJson(facts, "encode", { model: facts.model, input: facts.texts, ...promptOf(facts) });

const curlRank = (facts) => curlJson(facts, "rank", { model: facts.model, query: facts.texts[0], documents: facts.texts.slice(1) });

/** A form: texts are sent as they are, and curl reads the files. */
function curlForm(facts) {
  const fields = Object.entries({ model: facts.model, ...promptOf(facts) }).concat(facts.texts.map((text) => ["text", text]));
  const strings = fields.map(([name, value]) => `--form-string ${shell(`${name}=${value}`)}`);
  const files = facts.pictures.map((name) => `-F ${shell(`image=@"${name.replace(/["\\]/g, "\\$&")}"`)}`);
  return [request(facts, "encode"), ...strings, ...files].join(" \\\n  ");
}

const promptOf = ({ prompt }) => (prompt ? { prompt_name: prompt } : {});

// -- Python and JavaScript -------------------------------------------------------------------------------------------

const nearfield = ({ server, model, texts, key, prompt }) => `from nearfield.client import Client

with Client(${python(server)}, ${python(model)}, key=${python(key)}) as client:
    vectors = client.encode(${python(texts)}${prompt ? `, prompt_name=${python(prompt)}` : ""})`;

const nearfieldRank = ({ server, model, texts: [query, ...documents], key }) => `from nearfield.client import Client

with Client(${python(server)}, ${python(model)}, key=${python(key)}) as client:
    ranking = client.rank(${python(query)}, ${python(documents)})`;

const openAiPython = ({ server, model, texts, key, prompt }) => `from openai import OpenAI

client = OpenAI(base_url=${python(`${server}v1`)}, api_key=${python(key)})
reply = client.embeddings.create(
    model=${python(model)},
    input=${python(texts)},${prompt ? `\n    extra_body={"prompt_name": ${python(prompt)}},` : ""}
)
vectors = [item.embedding for item in reply.data]`;

const openAiJavaScript = ({ server, model, texts, key, ...facts }) => `import OpenAI from "openai";

const client = new OpenAI({ baseURL: ${python(`${server}v1`)}, apiKey: ${python(key)} });
const reply = await client.embeddings.create(${python({ model, input: texts, ...promptOf(facts) })});
const vectors = reply.data.map((item) => item.embedding);`;

const cohere = ({ server, model, texts, key }) => `import cohere

client = cohere.ClientV2(api_key=${python(key)}, base_url=${python(withoutSlash(server))})
reply = client.embed(
    model=${python(model)},
    texts=${python(texts)},
    input_type="search_document",  # or "search_query": the model's prompt of that name comes first
    embedding_types=["float"],
)
vectors = reply.embeddings.float_`;

const cohereRank = ({ server, model, texts: [query, ...documents], key }) => `import cohere

client = cohere.ClientV2(api_key=${python(key)}, base_url=${python(withoutSlash(server))})
ranking = client.rerank(model=${python(model)}, query=${python(query)}, documents=${python(documents)}).results`;

const withoutSlash = (server) => server.replace(/\/$/, "");

const ollama = ({ server, model, texts, key }) => `from ollama import Client

client = Client(host=${python(server)}, headers={"Authorization": ${python(`Bearer ${key}`)}})
vectors = client.embed(model=${python(model)}, input=${python(texts)}).embeddings`;

const langchain = ({ server, model, texts, key }) => `from langchain_openai import OpenAIEmbeddings

embeddings = OpenAIEmbeddings(
    base_url=${python(`${server}v1`)}, api_key=${python(key)}, model=${python(model)}, check_embedding_ctx_length=False
)
vectors = embeddings.embed_documents(${python(texts)})`;

/** This client names no model: the server takes the first that gives dense vectors. */
const huggingFace = ({ server, texts, key }) => `from huggingface_hub import InferenceClient

client = InferenceClient(model=${python(withoutSlash(server))}, provider="hf-inference", token=${python(key)})
vectors = [client.feature_extraction(text)[0] for text in ${python(texts)}]`;

// -- choice ----------------------------------------------------------------------------------------------------------

/** Functions by client, each from server, key, model, texts, names of pictures, and prompt. */
const RANKING = { "curl": curlRank, "Nearfield, Python": nearfieldRank, "Cohere, Python": cohereRank };
const WITH_PROMPT = { "curl": curlEncode, "Nearfield, Python": nearfield, "OpenAI, Python": openAiPython, "OpenAI, JavaScript": openAiJavaScript };
const ENCODING = { ...WITH_PROMPT, "Cohere, Python": cohere, "Ollama, Python": ollama, "LangChain, Python": langchain };

/** Return the functions of the clients that can send these inputs to a model; `isOnly`: no other gives dense vectors. */
export function clientsOf(outputs, { texts, pictures, prompt }, isOnly) {
  if (outputs.includes("scores")) return texts.length > 1 ? RANKING : {};
  if (pictures.length) return { "curl": curlForm };
  if (!outputs.includes("dense")) return { "curl": curlEncode };
  if (prompt) return WITH_PROMPT;
  return isOnly ? { ...ENCODING, "Hugging Face, Python": huggingFace } : ENCODING;
}
