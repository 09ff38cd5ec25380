import type { Duplex } from 'node:stream';
import { httpConnect } from './http-connect.js';
import type { ProxyAddress, ProxyTarget } from './proxy-choice.js';
import { proxyGarbled } from './proxy-dialogue.js';
import { socks5 } from './socks5.js';

/**
 * Has the proxy at the other end of `socket` open the way to `target`: afterwards what is written to the socket goes
 * there. `onFailure` gets a TransportError (`ERR_DPS_PROXY_AUTH`, `ERR_DPS_PROXY_REFUSED`, `ERR_DPS_PROXY_PROTOCOL`).
 *
 * Watches neither the clock nor the end of the socket: that is its owner's business, as is closing it.
 */
export function openTunnel(
  socket: Duplex,
  proxy: ProxyAddress,
  target: ProxyTarget,
  onOpen: () => void,
  onFailure: (error: Error) => void,
): void {
  const dialogue = proxy.kind === 'http' ? httpConnect(proxy, target) : socks5(proxy, target);
  let unread = Buffer.alloc(0);
  /** Whether the way is open. */
  const advance = (): boolean => {
    for (let chunk = socket.read(); chunk !== null; chunk = socket.read()) unread = Buffer.concat([unread, chunk]);
    for (;;) {
      const step = dialogue.take(unread);
      if (step.kind === 'wait') return false;
      unread = unread.subarray(step.used);
      if (step.kind === 'say') socket.write(step.bytes);
      // A TLS server waits for the client's first word: whatever comes before it is the proxy's own.
      else if (unread.length > 0) throw proxyGarbled(proxy, 'more than its answer');
      else return true;
    }
  };
  const onReadable = (): void => {
    let isOpen: boolean;
    try {
      isOpen = advance();
    } catch (error) {
      socket.off('readable', onReadable);
      onFailure(error as Error);
      return;
    }
    if (!isOpen) return;
    socket.off('readable', onReadable);
    onOpen();
  };
  socket.on('readable', onReadable);
  socket.write(dialogue.opening);
}
