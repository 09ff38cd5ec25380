import { kindOf } from './value-kind.js';

export type DpsTransportName = 'mqtt' | 'mqtt-ws' | 'amqp' | 'amqp-ws' | 'https';
export type HubTransportName = 'mqtt' | 'mqtt-ws';

export const DPS_TRANSPORTS: readonly DpsTransportName[] = ['mqtt', 'mqtt-ws', 'amqp', 'amqp-ws', 'https'];
export const HUB_TRANSPORTS: readonly HubTransportName[] = ['mqtt', 'mqtt-ws'];

/** What is wrong with a name, `auto`, or a list of names. */
export function namesProblem(value: string | readonly unknown[], names: readonly string[]): string | undefined {
  if (typeof value === 'string') return value === 'auto' ? undefined : nameProblem(value, [...names, 'auto']);
  if (value.length === 0) return `the list is empty; it can have ${names.join(', ')}.`;
  // Where there is a hole, too.
  const given = [...value];
  const other = given.findIndex((each) => typeof each !== 'string');
  if (other >= 0) return `the list must have names in it, not ${kindOf(given[other])}.`;
  if (new Set(given).size < given.length) return 'the list has a name twice.';
  return given.map((each) => nameProblem(String(each), names)).find((wrong) => wrong !== undefined);
}

function nameProblem(value: string, names: readonly string[]): string | undefined {
  if (names.includes(value)) return undefined;
  // Anything but a word may be a secret in the wrong place.
  const given = /^[a-z-]{1,16}$/i.test(value) ? `"${value}"` : 'the text given';
  return `${given} is not known; it can be ${names.join(' or ')}.`;
}
