/**
 * All that speaks MQTT, loaded as one piece: each file of its own costs a device half a millisecond at every start.
 * Registration over HTTPS does without it until there is a hub to go to.
 */
export { mqttHubTransport } from './hub/session.js';
export { mqttDpsTransport } from './transports/mqtt.js';
