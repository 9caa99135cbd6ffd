// Resumable uploads (tus 1.0): a large file is sent in parts, and continues after a broken connection or a reload.

import { ApiError, call } from "../api.js";

const PART = 8 * 2 ** 20;
/** Tries to reach the server again, and seconds before the first of them; each waits twice as long as the one before. */
const TRIES = 6, PAUSE = 1;
const HEADERS = { "tus-resumable": "1.0.0" };
const STORE = "nearfield-uploads";

/** Files of this many bytes are sent so; smaller ones in one request. */
export const LARGE = PART;

/** Return the unfinished uploads of a collection that this browser knows: name, size and time of each file. */
export const unfinished = (address) => Object.values(stored()).filter((upload) => upload.collection === address);

/** Forget an unfinished upload, and remove what the server has of it. */
export async function discard(upload) {
  forget(upload);
  await call(upload.path, { method: "DELETE", headers: HEADERS }).catch(() => {});
}

/** Send a file from where it stopped, and return the report of its indexing; `progress` gets the number of bytes that arrived. */
export async function sendFile(address, file, signal, progress) {
  const upload = { collection: address, name: file.name, size: file.size, modified: file.lastModified };
  upload.path = stored()[keyOf(upload)]?.path ?? "";
  let offset = upload.path ? await find(upload, signal) : -1;
  if (offset < 0) offset = await create(address, upload, signal);
  for (let failures = 0; ; ) {
    progress(offset);
    try {
      const report = await sendPart(upload.path, file, offset, signal);
      offset = Math.min(file.size, offset + PART);
      failures = 0;
      if (report) return finish(upload, report);
    } catch (error) {
      if (!(error instanceof ApiError) || ![0, 409, 502, 503, 504].includes(error.status) || ++failures > TRIES) throw error;
      await new Promise((resolve) => setTimeout(resolve, 1000 * PAUSE * 2 ** (failures - 1)));
      signal.throwIfAborted();
      offset = await find(upload, signal).catch(() => offset);
      if (offset < 0) throw error;
    }
  }
}

/** Send one part; return the report after the last one, otherwise null. */
async function sendPart(path, file, offset, signal) {
  const headers = { ...HEADERS, "content-type": "application/offset+octet-stream", "upload-offset": offset, prefer: "return=representation" };
  const response = await call(path, { method: "PATCH", headers, body: file.slice(offset, offset + PART), signal });
  return response.status === 200 ? response.json() : null;
}

async function create(address, upload, signal) {
  const name = btoa(String.fromCharCode(...new TextEncoder().encode(upload.name)));
  const headers = { ...HEADERS, "upload-length": upload.size, "upload-metadata": `filename ${name}` };
  const response = await call(`${address}/uploads`, { method: "POST", headers, signal });
  upload.path = response.headers.get("location").replace(/^\//, "");
  store({ ...stored(), [keyOf(upload)]: upload });
  return 0;
}

/** Return how much of an upload has arrived; -1 if the server does not know it any more. */
async function find(upload, signal) {
  try {
    const response = await call(upload.path, { method: "HEAD", headers: HEADERS, signal });
    return Number(response.headers.get("upload-offset"));
  } catch (error) {
    if (error.status !== 404) throw error;
    forget(upload);
    return -1;
  }
}

function finish(upload, report) {
  forget(upload);
  return report;
}

const keyOf = ({ collection, name, size, modified }) => JSON.stringify([collection, name, size, modified]);

function stored() {
  try {
    return JSON.parse(localStorage.getItem(STORE)) ?? {};
  } catch {
    return {};
  }
}

const store = (uploads) => localStorage.setItem(STORE, JSON.stringify(uploads));

function forget(upload) {
  const { [keyOf(upload)]: _, ...others } = stored();
  store(others);
}
