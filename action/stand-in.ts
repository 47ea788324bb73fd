/** The first line of a file that Git LFS stores elsewhere. */
const LFS_POINTER = Buffer.from('version https://git-lfs.github.com/spec/v1\n');
const GIT_CRYPT = Buffer.from('\0GITCRYPT\0');
const SOPS_VALUE = /ENC\[AES256_GCM,data:[^\]\s]*,type:\w+\]/;

/**
 * Says why a file of git is not the file that its name promises, because a filter or program makes that from it elsewhere;
 * undefined for an ordinary file. The host would get what git stores.
 */
export function describeStandIn(content: Buffer): string | undefined {
  if (startsWith(content, LFS_POINTER))
    return 'it is a pointer of Git LFS, not the file itself. Store it in git without LFS, or put it on the host by hand';
  if (startsWith(content, GIT_CRYPT))
    return 'it is locked by git-crypt, and the host has no key. Put the file on the host by hand';
  if (SOPS_VALUE.test(content.toString('latin1')))
    return 'it has values that SOPS encrypted, and the host does not decrypt them. Put the decrypted file on the host by hand';
  return undefined;
}

function startsWith(content: Buffer, mark: Buffer): boolean {
  return content.subarray(0, mark.length).equals(mark);
}
