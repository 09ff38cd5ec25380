import type { AmqpCarrier } from './amqp-carrier.js';
import { openWebSocket } from './websocket.js';

/** AMQP over WebSocket (RFC 6455), for networks that let port 443 out only. */
export const amqpWebSocketCarrier: AmqpCarrier = {
  name: 'amqp-ws',
  defaultPort: 443,
  open: (options, signal) => openWebSocket({ ...options, subprotocol: 'AMQPWSB10' }, signal),
};
