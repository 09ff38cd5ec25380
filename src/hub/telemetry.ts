import type { TelemetryMessage } from '../core/hub.js';
import { telemetryTopic } from '../core/wire/hub-mqtt.js';
import { ConfigurationError } from '../errors.js';
import type { MqttPublish } from '../net/mqtt-engine.js';
import { kindOf } from '../value-kind.js';

/** A larger one would cost the connection: the hub closes it without a word. */
export const MAX_TELEMETRY_BYTES: number = 256 * 1024;

/**
 * The publish that carries a telemetry message.
 *
 * @throws {ConfigurationError} `ERR_DPS_CONFIG_OPTION` for a body that is too large or not JSON, or wrong properties;
 * `ERR_DPS_CONFIG_UNSUPPORTED` for a device id that no MQTT topic can hold.
 */
export function telemetryPublish(deviceId: string, message: TelemetryMessage): MqttPublish {
  const { body, ...properties } = message;
  const isBytes = body instanceof Uint8Array;
  // The hub routes on the body only when these two are set.
  const described = isBytes ? properties : { contentType: 'application/json', contentEncoding: 'utf-8', ...properties };
  const payload = isBytes ? body : encodeJson(body);
  if (payload.length > MAX_TELEMETRY_BYTES) {
    throw wrongBody(`it has ${payload.length} bytes; the hub takes ${MAX_TELEMETRY_BYTES}`);
  }
  return { topic: telemetryTopic(deviceId, described), payload, qos: 1 };
}

function encodeJson(body: unknown): Uint8Array {
  let text: string | undefined;
  try {
    text = JSON.stringify(body);
  } catch (error) {
    throw wrongBody(`JSON cannot carry it (${error instanceof Error ? error.name : 'unknown error'})`);
  }
  if (text === undefined) throw wrongBody(`JSON cannot carry ${kindOf(body)}`);
  return new TextEncoder().encode(text);
}

function wrongBody(problem: string): ConfigurationError {
  return new ConfigurationError({
    code: 'ERR_DPS_CONFIG_OPTION',
    message: `The telemetry message was not sent because of its body: ${problem}.`,
    option: 'body',
  });
}
