/** `dps-device/azure` for CommonJS, which most code around Microsoft's packages is: a thin shim over the ESM door. */
type AzureDoor = typeof import('./index.js', { with: { 'resolution-mode': 'import' }});

const load = (): Promise<AzureDoor> => import('./index.js');

/** See `azureDeviceClient` of the ESM door. */
export const azureDeviceClient: AzureDoor['azureDeviceClient'] = async (...parameters: readonly unknown[]) =>
  ((await load()).azureDeviceClient as (...parameters: readonly unknown[]) => Promise<never>)(...parameters);

/** See `azureSecurityClient` of the ESM door. */
export const azureSecurityClient: AzureDoor['azureSecurityClient'] = async (...parameters: readonly unknown[]) =>
  ((await load()).azureSecurityClient as (...parameters: readonly unknown[]) => Promise<never>)(...parameters);

/** See `fromAzureSecurityClient` of the ESM door. */
export const fromAzureSecurityClient: AzureDoor['fromAzureSecurityClient'] = async (
  ...parameters: readonly unknown[]
) => ((await load()).fromAzureSecurityClient as (...parameters: readonly unknown[]) => Promise<never>)(...parameters);
