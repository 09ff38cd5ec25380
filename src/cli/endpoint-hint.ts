import { DEFAULT_DPS_ENDPOINT, DPS_ENDPOINTS, splitHostPort } from '../core/identifiers.js';
import type { Options } from './options.js';

/** What to say beside an error, by its code and message, where the options explain it. */
export type Hint = (code: string | undefined, message: string) => string | undefined;

/**
 * A name without a dot may be that of a host in the local network. Only where it is not found, it is time to say that it
 * was taken for one.
 */
export function endpointHint(options: Options): Hint {
  const endpoint = options.text('endpoint') ?? '';
  const { host } = splitHostPort(endpoint, 0) ?? { host: '' };
  if (host === '' || /[.:]/.test(host)) return () => undefined;
  const clouds = Object.keys(DPS_ENDPOINTS).join(', ');
  const hint = `${options.label('endpoint')} ${host} was taken for the name of a host. It can be HOST, HOST:PORT, or one of ${clouds}; the default, public, is ${DEFAULT_DPS_ENDPOINT}.`;
  return (code, message) => (code === 'ERR_DPS_DNS' && message.includes(` ${host} `) ? hint : undefined);
}
