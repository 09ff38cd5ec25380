/** The addresses that links are attached to, in the three forms that clients write them in. */

/** What a link's address means. */
export type AmqpAddress =
  | { readonly kind: 'dps'; readonly idScope: string; readonly registrationId: string }
  | { readonly kind: 'cbs' }
  | {
      readonly kind: 'device';
      readonly deviceId: string;
      readonly moduleId: string | undefined;
      readonly tail: string;
    };

const REGISTRATION = /^([^/]+)\/registrations\/([^/]+)$/;
const DEVICE = /^devices\/([^/]+)(?:\/modules\/([^/]+))?\/(.+)$/;

/**
 * `{scope}/registrations/{id}` of DPS, `devices/{id}/…` and `$cbs` of a hub; bare, with a leading slash, or as
 * `amqps://{host}/…`. `undefined` for anything else.
 */
export function parseAddress(text: string): AmqpAddress | undefined {
  const path = text.replace(/^amqps?:\/\/[^/]*/i, '').replace(/^\//, '');
  if (path === '$cbs') return { kind: 'cbs' };
  const [, idScope, registrationId] = REGISTRATION.exec(path) ?? [];
  if (idScope !== undefined && registrationId !== undefined) return { kind: 'dps', idScope, registrationId };
  const [, deviceId, moduleId, tail] = DEVICE.exec(path) ?? [];
  return deviceId === undefined || tail === undefined ? undefined : { kind: 'device', deviceId, moduleId, tail };
}
