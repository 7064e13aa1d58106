// Requests to the studio: JSON both ways, with the token that proves where they come from.

const PATIENCE = 20_000;

function token() {
  const found = document.cookie.split("; ").find((one) => one.startsWith("heedful-csrf="));
  return found ? decodeURIComponent(found.slice("heedful-csrf=".length)) : "";
}

// {status, data}; status 0 when no answer came.
export async function post(url, body = {}) {
  const limit = new AbortController();
  const timer = setTimeout(() => limit.abort(), PATIENCE);
  try {
    const reply = await fetch(url, {
      method: "POST",
      credentials: "same-origin",
      headers: { "Content-Type": "application/json", Accept: "application/json", "X-CSRFToken": token() },
      body: JSON.stringify(body),
      signal: limit.signal,
    });
    let data = {};
    try {
      data = await reply.json();
    } catch { /* a page of a proxy, say */ }
    return { status: reply.status, data, wait: Number(reply.headers.get("Retry-After")) || 0 };
  } catch {
    return { status: 0, data: {}, wait: 0 };
  } finally {
    clearTimeout(timer);
  }
}

// Whether the same request may do better later: no answer, a busy or failing server, a session that ended.
export const later = (status) => status === 0 || status >= 500 || [401, 403, 408, 429].includes(status);
