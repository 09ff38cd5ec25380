import { responseBody } from './dps-faults.js';
import type { TakenFault } from './faults.js';
import type { Hub } from './hub.js';
import { hubErrorBody } from './hub-error.js';
import { deviceView } from './twin-document.js';
import type { World } from './world.js';

/** What a hub answers twin requests with, whatever the device speaks. */

/** The twin's text; a fault switch may change desired properties first. `undefined` when the device is gone. */
export function twinText(hub: Hub, deviceId: string, fault: TakenFault | undefined): string | undefined {
  const push = fault?.find('pushDesired');
  const before = hub.twin(deviceId);
  if (push !== undefined) hub.patchDesired(deviceId, push.patch);
  const twin = push?.answer === 'stale' ? before : hub.twin(deviceId);
  return twin === undefined ? undefined : JSON.stringify(deviceView(twin));
}

export interface ForcedTwinAnswer {
  readonly status: number;
  readonly body: Uint8Array;
  /** MQTT only: the whole topic, where it is forced, too. */
  readonly topic: string | undefined;
}

/** The answer that a fault switch gives instead of the hub. */
export function forcedTwinAnswer(world: World, fault: TakenFault | undefined): ForcedTwinAnswer | undefined {
  const response = fault?.find('respond');
  if (response === undefined) return undefined;
  const { status = 200, topic } = response;
  const body = responseBody(response, () =>
    status >= 400 ? hubErrorBody(world, status * 1000 + 1, 'Fault switch.') : undefined,
  );
  return { status, body, topic };
}
