import type { Clock } from '../../../src/core/clock.js';
import { unreachable } from '../../../src/core/unreachable.js';
import type { TpmLink } from './link.js';
import type { TpmLinkName } from './link-uri.js';

/** Makes the link of that name. Nothing is opened yet; what a kind needs is loaded when it is used. */
export async function openTpmLink(name: TpmLinkName, clock: Clock): Promise<TpmLink> {
  switch (name.kind) {
    case 'device':
      return new (await import('./device.js')).DeviceLink(name.path, clock);
    case 'swtpm':
      return new (await import('./swtpm.js')).SwtpmLink(name.target, clock);
    case 'mssim':
      return new (await import('./mssim.js')).MssimLink(name.target, clock);
    case 'tcti':
      return new (await import('./tcti-link.js')).TctiLink(name.name, clock);
    default:
      return unreachable(name);
  }
}
