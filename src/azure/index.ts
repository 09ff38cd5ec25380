/** `dps-device/azure`: doors to Microsoft's packages, both ways. Their packages are optional peers. */
export type {
  AzureDeviceClient,
  AzureDeviceClientClass,
  AzureDeviceClientOptions,
  AzureDeviceTransportClass,
} from './device-client.js';
export { azureDeviceClient } from './device-client.js';
export type {
  AzureCallback,
  AzureSecurityClientOptions,
  AzureSharedAccessToken,
  AzureSymmetricKeySecurityClient,
  AzureX509Credential,
  AzureX509SecurityClient,
} from './security-client.js';
export { azureSecurityClient } from './security-client.js';
export type { AzureSymmetricKeySecurity, AzureX509Security, SecurityClientHsmOptions } from './security-client-hsm.js';
export { fromAzureSecurityClient } from './security-client-hsm.js';
