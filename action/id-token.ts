import * as core from '@actions/core';
import { refusals } from './refusals.ts';

/** A token of GitHub's for that audience; it is masked in the log. Throws `Refused` `id-token-unavailable`. */
export async function idToken(audience: string): Promise<string> {
  try {
    return await core.getIDToken(audience);
  } catch (error) {
    throw refusals.idTokenUnavailable(error instanceof Error ? error.message : String(error));
  }
}
