// Calls of the controller. Each either answers or throws a Refusal with a sentence for people.

/// Why a call was not carried out.
export class Refusal extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

export const ask = (path) => call(path, {});

export function act(path, body) {
  const json = !(body instanceof Uint8Array);
  return call(path, {
    method: "POST",
    body: json ? JSON.stringify(body ?? {}) : body,
    headers: { "content-type": json ? "application/json" : "application/octet-stream" },
  });
}

async function call(path, options) {
  const headers = { ...options.headers, "x-gantry-web": "1" };
  let answer;
  try {
    answer = await fetch("/web/api/" + path, { ...options, headers, credentials: "same-origin", cache: "no-store" });
  } catch {
    throw new Refusal(0, "unreachable", "");
  }
  const told = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Refusal(answer.status, told.code ?? "internal", told.message ?? answer.statusText);
  return told;
}

/// A UUIDv7: the same wish, sent twice, is one wish.
export function wish() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  let now = Date.now();
  for (let at = 5; at >= 0; at--) {
    bytes[at] = now % 256;
    now = Math.floor(now / 256);
  }
  bytes[6] = 0x70 | (bytes[6] & 0x0f);
  bytes[8] = 0x80 | (bytes[8] & 0x3f);
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}
