// Code that sends the same texts with each client.

const python = (value) => JSON.stringify(value);
const shell = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

const openAiPython = ({ server, model, texts, key }) => `from openai import OpenAI

client = OpenAI(base_url=${python(`${server}v1`)}, api_key=${python(key)})
reply = client.embeddings.create(model=${python(model)}, input=${python(texts)})
vectors = [item.embedding for item in reply.data]`;

const openAiJavaScript = ({ server, model, texts, key }) => `import OpenAI from "openai";

const client = new OpenAI({ baseURL: ${python(`${server}v1`)}, apiKey: ${python(key)} });
const reply = await client.embeddings.create({ model: ${python(model)}, input: ${python(texts)} });
const vectors = reply.data.map((item) => item.embedding);`;

const curl = ({ server, model, texts, key, role }) => `curl ${shell(`${server}encode`)} \\
  -H ${shell(`Authorization: Bearer ${key}`)} -H 'Content-Type: application/json' \\
  -d ${shell(JSON.stringify({ model, input: texts, ...(role && { role }) }))}`;

const cohere = ({ server, model, texts, key, role }) => `import cohere

client = cohere.ClientV2(api_key=${python(key)}, base_url=${python(server.replace(/\/$/, ""))})
reply = client.embed(
    model=${python(model)},
    texts=${python(texts)},
    input_type=${python(role === "query" ? "search_query" : "search_document")},
    embedding_types=["float"],
)
vectors = reply.embeddings.float_`;

const ollama = ({ server, model, texts, key }) => `from ollama import Client

client = Client(host=${python(server)}, headers={"Authorization": ${python(`Bearer ${key}`)}})
vectors = client.embed(model=${python(model)}, input=${python(texts)}).embeddings`;

const huggingFace = ({ server, model, texts, key }) => `from huggingface_hub import InferenceClient

client = InferenceClient(base_url=${python(server)}, api_key=${python(key)})  # the model: ${model}
vectors = [client.feature_extraction(text) for text in ${python(texts)}]`;

const langchain = ({ server, model, texts, key }) => `from langchain_openai import OpenAIEmbeddings

embeddings = OpenAIEmbeddings(
    base_url=${python(`${server}v1`)}, api_key=${python(key)}, model=${python(model)}, check_embedding_ctx_length=False
)
vectors = embeddings.embed_documents(${python(texts)})`;

/** Functions by client. Each takes server, model, texts, key and role. */
export const SNIPPETS = {
  "curl": curl,
  "OpenAI, Python": openAiPython,
  "OpenAI, JavaScript": openAiJavaScript,
  "Cohere": cohere,
  "Ollama": ollama,
  "Hugging Face (TEI)": huggingFace,
  "LangChain": langchain,
};
