/** The emulator's door for CommonJS: a thin shim over the ESM one. */
type EmulatorDoor = typeof import('./index.js', { with: { 'resolution-mode': 'import' }});

/** See `startEmulator` of the ESM door. */
export async function startEmulator(
  ...parameters: Parameters<EmulatorDoor['startEmulator']>
): Promise<Awaited<ReturnType<EmulatorDoor['startEmulator']>>> {
  const door = await import('./index.js');
  return door.startEmulator(...parameters);
}
