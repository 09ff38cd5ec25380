/** The texts that MQTT carries besides payloads: user names and the queries at the end of topics. */
import { decodePercent } from '../core/bytes.js';

export type UserName =
  | {
      readonly kind: 'dps';
      readonly idScope: string;
      readonly registrationId: string;
      readonly apiVersion: string;
      readonly userAgent: string | undefined;
    }
  | {
      readonly kind: 'hub';
      readonly host: string;
      readonly deviceId: string;
      readonly moduleId: string | undefined;
      readonly apiVersion: string | undefined;
      readonly userAgent: string | undefined;
    };

/**
 * Tells the two services apart by the user name:
 * `{scope}/registrations/{rid}/api-version={v}[&ClientVersion={agent}]` and
 * `{hub}/{device}[/{module}]/[?]api-version={v}[&DeviceClientType={agent}][&model-id={dtmi}]`, keys in any order.
 *
 * @returns `undefined` when it is neither, or lacks what DPS demands.
 */
export function parseUserName(text: string): UserName | undefined {
  const [owner = '', second = '', ...rest] = text.split('/');
  if (owner === '' || second === '') return undefined;
  if (second === 'registrations' && rest[0] !== undefined && rest[0] !== '' && !rest[0].startsWith('?')) {
    return parseDpsUserName(owner, rest);
  }
  return parseHubUserName(owner, second, rest);
}

function parseDpsUserName(idScope: string, [registrationId = '', ...query]: readonly string[]): UserName | undefined {
  const fields = parseQuery(query.join('/').replace(/^\?/, ''));
  const apiVersion = fields.get('api-version');
  if (apiVersion === undefined) return undefined;
  return { kind: 'dps', idScope, registrationId, apiVersion, userAgent: fields.get('ClientVersion') };
}

function parseHubUserName(host: string, deviceId: string, rest: readonly string[]): UserName {
  // A module id stands before the query; only the query starts with `?` or has a `=`.
  const [first = ''] = rest;
  const hasModule = first !== '' && !first.startsWith('?') && !first.includes('=');
  const query = (hasModule ? rest.slice(1) : rest).join('/');
  const fields = parseQuery(query.replace(/^\?/, ''));
  return {
    kind: 'hub',
    host,
    deviceId,
    moduleId: hasModule ? first : undefined,
    apiVersion: fields.get('api-version'),
    userAgent: fields.get('DeviceClientType'),
  };
}

/** `k=v&k2=v2`, both sides decoded where they can be; a bare key has an empty value; the first of two wins. */
export function parseQuery(text: string): ReadonlyMap<string, string> {
  const fields = new Map<string, string>();
  for (const [key, value] of splitQuery(text)) {
    const decoded = decodeLeniently(key);
    if (!fields.has(decoded)) fields.set(decoded, decodeLeniently(value));
  }
  return fields;
}

/** The `$rid` of a topic's query exactly as it was sent: answers carry it byte for byte. */
export function findRequestId(query: string): string | undefined {
  const found = splitQuery(query).find(([key]) => decodeLeniently(key) === '$rid');
  return found?.[1] === '' ? undefined : found?.[1];
}

function splitQuery(text: string): readonly (readonly [string, string])[] {
  return text
    .split('&')
    .filter((part) => part !== '')
    .map((part) => {
      const equals = part.indexOf('=');
      return equals < 0 ? [part, ''] : [part.slice(0, equals), part.slice(equals + 1)];
    });
}

function decodeLeniently(text: string): string {
  return decodePercent(text) ?? text;
}
