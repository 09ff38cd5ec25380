/** How fault switches bend what the provisioning service answers; the same over every transport. */
import { decodeBase64, encodeUtf8 } from '../core/bytes.js';
import type { OperationScript } from './assignment.js';
import type { FaultResponse } from './fault.js';
import type { TakenFault } from './faults.js';
import type { JsonObject, JsonValue } from './json.js';
import { refuse, type ServiceReply } from './service-reply.js';
import type { World } from './world.js';

/** A reply as bytes, ready for a transport. */
export interface RenderedReply {
  readonly status: number;
  readonly body: Uint8Array;
  readonly retryAfter: string | undefined;
  readonly errorCode: number | undefined;
  readonly trackingId: string | undefined;
  /** Why it was refused; for the log. */
  readonly reason: string | undefined;
  readonly headers: Readonly<Record<string, string>>;
  readonly topic: string | undefined;
}

/** What the fault says about the operation that a register starts. */
export function readScript(fault: TakenFault | undefined): OperationScript {
  const outcome = fault?.find('outcome');
  const payload = fault?.find('payload')?.payload;
  const tpmBlob = fault?.find('tpmBlob')?.damage;
  return {
    delayPolls: fault?.find('delay')?.polls ?? 0,
    isImmediate: fault?.find('assignImmediately') !== undefined,
    ...(outcome && { outcome }),
    ...(payload && { payload }),
    ...(tpmBlob && { tpmBlob }),
  };
}

/** The fault's own response, or what the service says, with the fault's retry-after. */
export function faultReply(world: World, fault: TakenFault | undefined, ask: () => ServiceReply): RenderedReply {
  const response = fault?.find('respond');
  if (response !== undefined) return renderResponse(world, response);
  const { status, body, retryAfterSeconds, error } = ask();
  const forced = fault?.find('retryAfter');
  const usual = retryAfterSeconds?.toString();
  return {
    status,
    body: encodeUtf8(JSON.stringify(body)),
    retryAfter: forced === undefined ? usual : (forced.value ?? undefined),
    errorCode: error?.errorCode,
    trackingId: error?.trackingId,
    reason: error?.reason,
    headers: {},
    topic: undefined,
  };
}

/** Bytes of a response that a fault dictates. */
export function responseBody(response: FaultResponse, usual: () => JsonObject | undefined): Uint8Array {
  if (response.base64 !== undefined) return decodeBase64(response.base64) ?? new Uint8Array();
  if (response.text !== undefined) return encodeUtf8(response.text);
  const body: JsonValue | undefined = response.body === undefined ? usual() : response.body;
  return body === undefined ? new Uint8Array() : encodeUtf8(JSON.stringify(body));
}

function renderResponse(world: World, response: FaultResponse): RenderedReply {
  const status = response.status ?? 200;
  const error = refuse(world, status * 1000 + 1, 'Fault switch.', 'fault: respond');
  return {
    status,
    body: responseBody(response, () => (status >= 400 ? error.body : {})),
    retryAfter: response.retryAfter,
    errorCode: status >= 400 ? error.error?.errorCode : undefined,
    trackingId: status >= 400 ? error.error?.trackingId : undefined,
    reason: undefined,
    headers: response.headers ?? {},
    topic: response.topic,
  };
}
