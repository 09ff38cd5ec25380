import type { DpsError } from '../errors.js';
import { type Journey, type JourneyEffect, transportsOf } from './journey-state.js';
import { report } from './journey-steps.js';
import type { RegistrationEffect } from './registration.js';
import { currentTransport, hasChoice, orderTransports, type TransportOrder } from './transport-order.js';

/** What the journey machine says of transports where it has several to choose from; the registration machine knows of none. */

/** For an effect or event; nothing where there is no choice. */
export function chosen(order: TransportOrder): { readonly transport?: string } {
  return hasChoice(order) ? { transport: currentTransport(order) } : {};
}

/** An effect of the registration, with the transport that it is about. */
export function byTransport(
  effect: Exclude<RegistrationEffect, { readonly type: 'Finish' }>,
  order: TransportOrder,
): JourneyEffect {
  if (effect.type === 'OpenConnection') return { ...effect, ...chosen(order) };
  if (effect.type !== 'ReportProgress') return effect;
  const { event } = effect;
  const isAboutIt = event.type === 'connecting' || event.type === 'connected';
  return isAboutIt ? report({ ...event, ...chosen(order) }) : effect;
}

/** `from` did not get through, and `to` has the next one's turn. */
export function nextTransport(
  to: 'dps' | 'hub',
  from: TransportOrder,
  { order, error }: { readonly order: TransportOrder; readonly error: DpsError },
): JourneyEffect {
  const [transport, after] = [currentTransport(order), currentTransport(from)];
  return report({ type: 'next-transport', to, transport, after, code: error.code, message: error.message });
}

/** What has just worked comes first from now on. */
export function confirmedDps({ config, memory }: Journey): TransportOrder {
  return orderTransports(transportsOf(config).transports, currentTransport(memory.dpsOrder));
}

export function confirmedHub({ config, memory }: Journey): TransportOrder {
  return orderTransports(transportsOf(config).hubTransports, currentTransport(memory.hubOrder));
}
