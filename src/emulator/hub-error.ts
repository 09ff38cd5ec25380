import { type DpsErrorCode, ServiceError } from '../errors.js';
import type { JsonObject } from './json.js';
import { formatTimestamp, makeHubTrackingId, type World } from './world.js';

/** The hub's error shape. Devices always get it: one of Microsoft's clients dies of any other body. */
export function hubErrorBody(world: World, errorCode: number, message: string): JsonObject {
  return {
    errorCode,
    trackingId: makeHubTrackingId(world),
    message,
    timestampUtc: formatTimestamp(world.wallMs()),
  };
}

/** What the hub's service side throws, e.g. 404103 for a device that is not online. */
export function hubError(world: World, errorCode: number, message: string): ServiceError {
  const status = Math.floor(errorCode / 1000);
  return new ServiceError({
    code: codeOf(status),
    message: `${message} (${errorCode})`,
    service: 'hub',
    status,
    errorCode,
    trackingId: makeHubTrackingId(world),
    timestampUtc: formatTimestamp(world.wallMs()),
  });
}

function codeOf(status: number): DpsErrorCode {
  if (status === 400) return 'ERR_DPS_SERVICE_BAD_REQUEST';
  if (status === 404) return 'ERR_DPS_SERVICE_NOT_FOUND';
  if (status === 409) return 'ERR_DPS_SERVICE_CONFLICT';
  return status >= 500 ? 'ERR_DPS_SERVICE_UNAVAILABLE' : 'ERR_DPS_SERVICE_REFUSED';
}
