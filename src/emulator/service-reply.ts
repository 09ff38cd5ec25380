import type { JsonObject } from './json.js';
import { formatTimestamp, makeGuid, type World } from './world.js';

/** An answer of the provisioning service before any transport has dressed it. */
export interface ServiceReply {
  /** HTTP status, also over MQTT. */
  readonly status: number;
  readonly body: JsonObject;
  readonly retryAfterSeconds?: number;
  /** Only on refusals. */
  readonly error?: { readonly errorCode: number; readonly trackingId: string; readonly reason: string };
}

/**
 * A refusal in the service's error shape. The status is the error code's first three digits. There is never a
 * top-level `status` in it: one of Microsoft's clients would take it for the operation's.
 *
 * @param reason what really was wrong, for the log; the device is not told.
 */
export function refuse(world: World, errorCode: number, message: string, reason: string): ServiceReply {
  const trackingId = makeGuid(world);
  return {
    status: Math.floor(errorCode / 1000),
    body: { errorCode, trackingId, message, timestampUtc: formatTimestamp(world.wallMs()) },
    error: { errorCode, trackingId, reason },
  };
}
