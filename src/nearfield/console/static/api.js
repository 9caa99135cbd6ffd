// The public HTTP API: requests with the user's key, errors as messages, and streams.

import { askForKey, storedKey } from "./key.js";

/** The address of the server: the console's page is directly below it. */
export const SERVER = new URL(".", document.baseURI);

/** An error with a message for the user. The status is 0 if the server did not answer. */
export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** Send a request and return the successful response.
 *
 * Options are those of `fetch`; `json` is a body to encode. Unless `quiet`, a user whose key is refused is asked for
 * another one.
 */
export async function call(path, { json, quiet, headers, ...options } = {}) {
  const sent = storedKey();
  const response = await send(path, {
    ...options,
    ...(json !== undefined && { method: "POST", body: JSON.stringify(json) }),
    headers: {
      ...(json !== undefined && { "content-type": "application/json" }),
      ...(sent && { authorization: `Bearer ${encodeKey(sent)}` }),
      ...headers,
    },
  });
  if (response.ok) return response;
  const error = new ApiError(response.status, await errorMessage(response));
  if (error.status !== 401 || quiet) throw error;
  if (storedKey() === sent && !(await askForKey(error.message))) throw error;
  return call(path, { json, quiet, headers, ...options });
}

export const getJson = async (path, options) => (await call(path, options)).json();
export const postJson = async (path, json, options) => (await call(path, { json, ...options })).json();

/** Join parts of a path, which may contain anything. */
export const pathOf = (...parts) => parts.map(encodeURIComponent).join("/");

/** Return a query string of the values that are not empty. */
export function queryOf(values) {
  return new URLSearchParams(Object.entries(values).filter(([, value]) => value !== "" && value != null)).toString();
}

async function send(path, options) {
  try {
    return await fetch(new URL(path, SERVER), { cache: "no-store", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "The server does not answer. It may have stopped, or the network is down.");
  }
}

/** A header has one byte for each character, and servers read them as UTF-8. */
function encodeKey(key) {
  return String.fromCharCode(...new TextEncoder().encode(key));
}

async function errorMessage(response) {
  const body = await response.json().catch(() => ({}));
  const message = body.error?.message ?? body.message ?? body.error;
  return typeof message === "string" ? message : `The server answered with status ${response.status}.`;
}

/** Yield the server-sent events of a response as pairs of a name and its data. */
export async function* events(response) {
  let rest = "";
  for await (const text of texts(response.body)) {
    const blocks = (rest + text).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) yield readEvent(block);
  }
}

async function* texts(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  try {
    for (let part = await reader.read(); !part.done; part = await reader.read()) yield part.value;
  } finally {
    reader.cancel().catch(() => {});
  }
}

function readEvent(block) {
  const fields = Object.fromEntries(block.split("\n").map((line) => line.split(/: (.*)/s)));
  return [fields.event, JSON.parse(fields.data)];
}
