import type { TraceEntry } from './trace.js';

const SHOWN_CHARACTERS = 200;

/**
 * One readable line for an entry, e.g.
 * `10:00:01.234 dps mqtt #3 0ne00000000/dev-1 register`,
 * `10:00:01.236 hub mqtt #4 hub-1/dev-1 connack 5`.
 */
export function formatTraceEntry(entry: TraceEntry): string {
  const time = new Date(entry.wallMs).toISOString().slice(11, 23);
  const service = entry.service === 'none' ? '-' : entry.service;
  const owner = [entry.idScope ?? entry.hub, entry.device].filter((part) => part !== undefined).join('/');
  const parts = [
    time,
    service,
    entry.protocol,
    `#${entry.connection}`,
    owner,
    entry.event,
    entry.status?.toString(),
    entry.topic,
    entry.detail === undefined ? undefined : `(${entry.detail})`,
  ];
  const shown = parts.filter((part) => part !== undefined && part !== '').map((part) => makePrintable(part ?? ''));
  return shown.join(' ');
}

/** Names come from clients: nothing in them may end a line or steer a terminal. */
function makePrintable(text: string): string {
  const short = text.length > SHOWN_CHARACTERS ? `${text.slice(0, SHOWN_CHARACTERS)}…` : text;
  return short.replace(
    /[\p{Cc}\p{Cf}\u2028\u2029]/gu,
    (character) => `\\u{${(character.codePointAt(0) ?? 0).toString(16)}}`,
  );
}
