import { kindOf } from './value-kind.js';

export type DpsTransportName = 'mqtt' | 'mqtt-ws' | 'amqp' | 'amqp-ws' | 'https';
export type HubTransportName = 'mqtt' | 'mqtt-ws';

export const DPS_TRANSPORTS: readonly DpsTransportName[] = ['mqtt', 'mqtt-ws', 'amqp', 'amqp-ws', 'https'];
export const HUB_TRANSPORTS: readonly HubTransportName[] = ['mqtt', 'mqtt-ws'];

/** What is wrong with a name, `auto`, or a list of names. */
export function namesProblem(value: string | readonly unknown[], names: readonly string[]): string | undefined {
  if (typeof value === 'string') return value === 'auto' ? undefined : nameProblem(value, [...names, 'auto']);
  if (value.length === 0) return `the list is empty; it can have ${names.join(', ')}.`;
  const other = value.find((each) => typeof each !== 'string');
  if (other !== undefined) return `the list must have names in it, not ${kindOf(other)}.`;
  if (new Set(value).size < value.length) return 'the list has a name twice.';
  return value.map((each) => nameProblem(String(each), names)).find((wrong) => wrong !== undefined);
}

function nameProblem(value: string, names: readonly string[]): string | undefined {
  if (names.includes(value)) return undefined;
  // Anything but a word may be a secret in the wrong place.
  const given = /^[a-z-]{1,16}$/i.test(value) ? `"${value}"` : 'the text given';
  return `${given} is not known; it can be ${names.join(' or ')}.`;
}
