import type { TelemetryMessage } from '../core/hub.js';
import { telemetryTopic } from '../core/wire/hub-mqtt.js';
import type { MqttPublish } from '../net/mqtt-engine.js';
import { encodeMessage } from './outgoing-bodies.js';

/**
 * The publish that carries a telemetry message.
 *
 * @throws {ConfigurationError} `ERR_DPS_CONFIG_OPTION` for a body that is too large or not JSON, or wrong properties;
 * `ERR_DPS_CONFIG_UNSUPPORTED` for a device id that no MQTT topic can hold.
 */
export function telemetryPublish(deviceId: string, message: TelemetryMessage): MqttPublish {
  const { body: payload, ...properties } = encodeMessage(message);
  return { topic: telemetryTopic(deviceId, properties), payload, qos: 1 };
}
