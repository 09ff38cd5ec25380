/** What a listener can fail at, or what arrived damaged. */
export type StrayErrorOrigin =
  | 'desired listener'
  | 'message listener'
  | 'method handler'
  | 'method response'
  | 'token renewal'
  | 'delivery';

/** Takes an error that no call of the application is waiting for. */
export type StrayErrorSink = (error: unknown, origin: StrayErrorOrigin) => void;

/** Shows it as a warning of the process: a failing listener must neither end the process nor fail unseen. */
export const warnOfStrayError: StrayErrorSink = (error, origin) => {
  const text = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  process.emitWarning(`Error in a hub session (${origin}): ${text}`, { type: 'DpsDeviceWarning' });
};

/** A sink that never throws: what the application's own one throws is shown as a warning, too. */
export function safeSink(sink: StrayErrorSink = warnOfStrayError): StrayErrorSink {
  return (error, origin) => {
    try {
      sink(error, origin);
    } catch (sinkError) {
      warnOfStrayError(sinkError, origin);
    }
  };
}

/** Calls `work`; what it throws, or its promise rejects with, goes to the sink. */
export function guard(work: () => unknown, onStrayError: StrayErrorSink, origin: StrayErrorOrigin): void {
  callNow(work).catch((error: unknown) => onStrayError(error, origin));
}

async function callNow(work: () => unknown): Promise<unknown> {
  return work();
}
