// Numbers and times as people read them.

const UNITS = ["", "k", "M", "G", "T"];

/** `1.2k`. */
export function count(value) {
  let unit = 0;
  while (value >= 1000 && unit < UNITS.length - 1) {
    value /= 1000;
    unit += 1;
  }
  const digits = unit > 0 && value < 100 ? 1 : 0;
  return value.toFixed(digits) + UNITS[unit];
}

/** `1.2 kB`. */
export function bytes(value) {
  const text = count(value);
  const unit = text.match(/[a-zA-Z]$/);
  return unit ? `${text.slice(0, -1)} ${unit[0]}B` : `${text} B`;
}

/** `0.3/s`. */
export function rate(value) {
  if (value >= 10) return `${count(value)}/s`;
  return `${value >= 0.1 ? value.toFixed(1) : value.toFixed(2)}/s`;
}

const CLOCK = new Intl.DateTimeFormat(undefined, {
  hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3, hour12: false,
});

/** Time of day, to a millisecond. */
export function clock(time) {
  return CLOCK.format(new Date(time));
}

/** `3 min ago`. */
export function age(time) {
  const seconds = Math.max(0, (Date.now() - new Date(time).getTime()) / 1000);
  if (seconds < 60) return `${Math.round(seconds)} s ago`;
  if (seconds < 3600) return `${Math.round(seconds / 60)} min ago`;
  if (seconds < 86400) return `${Math.round(seconds / 3600)} h ago`;
  return `${Math.round(seconds / 86400)} d ago`;
}

/** `1 pod`, `3 pods`. */
export function plural(number, noun) {
  return `${count(number)} ${noun}${number === 1 ? "" : "s"}`;
}

/** `120 µs`, `1.2 ms`. */
export function duration(microseconds) {
  if (microseconds < 1000) return `${microseconds} µs`;
  const [value, unit] = microseconds < 1e6 ? [microseconds / 1000, "ms"] : [microseconds / 1e6, "s"];
  return `${value.toFixed(value < 10 ? 1 : 0)} ${unit}`;
}

/** `80/TCP`. */
export function port(of) {
  if (of.is_further) return "further ports";
  if (of.port === undefined || of.port === null) return of.protocol || "unreadable";
  return `${of.port}/${of.protocol}`;
}
