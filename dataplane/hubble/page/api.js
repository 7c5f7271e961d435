// Asks the daemon, and listens to it while somebody looks.

/** The answer to a question; throws what the daemon says is wrong, with the `status` of its answer. */
export async function ask(path, query = {}) {
  const address = new URL(path, location.origin);
  for (const [name, value] of Object.entries(query)) address.searchParams.set(name, value);
  const answer = await fetch(address, { headers: { accept: "application/json" } });
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) {
    const fault = new Error(body.error ?? `the daemon answers ${answer.status}`);
    throw Object.assign(fault, { status: answer.status });
  }
  return body;
}

const AGAIN_AFTER = 2000;
const states = new Map();
let onPulse = () => {};

/** Calls with true while all that is listened to is heard. */
export function watchPulse(listener) {
  onPulse = listener;
}

function pulse(path, isHeard) {
  states.set(path, isHeard);
  onPulse([...states.values()].every(Boolean));
}

/**
 * Listens until `close` is called, and not while nobody looks at the page.
 * `address` is asked for anew at each beginning.
 */
export function listen(address, kind, heard) {
  let source = null;
  let again = null;
  const path = address().split("?")[0];
  const open = () => {
    if (source || document.hidden) return;
    source = new EventSource(address());
    source.addEventListener(kind, (event) => heard(JSON.parse(event.data)));
    source.addEventListener("open", () => pulse(path, true));
    source.addEventListener("error", () => {
      pulse(path, false);
      // Not by itself: it would ask for what is known already.
      close();
      again = setTimeout(open, AGAIN_AFTER);
    });
  };
  const close = () => {
    clearTimeout(again);
    source?.close();
    source = null;
  };
  const look = () => (document.hidden ? close() : open());
  document.addEventListener("visibilitychange", look);
  open();
  return () => {
    document.removeEventListener("visibilitychange", look);
    close();
    states.delete(path);
  };
}
