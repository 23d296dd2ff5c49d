-- JSON Web Tokens for nginx, as well as Lua can do it: OpenSSL through LuaJIT's FFI, with keys that
-- are parsed once and contexts that are used again, and no copy of a token but its decoded parts.
local ffi = require("ffi")
local json = require("cjson.safe")
local decode = require("ngx.base64").decode_base64url

ffi.cdef [[
typedef struct evp_pkey_st EVP_PKEY;
typedef struct evp_pkey_ctx_st EVP_PKEY_CTX;
typedef struct evp_md_st EVP_MD;
typedef struct hmac_ctx_st HMAC_CTX;
typedef struct bio_st BIO;
BIO *BIO_new_file(const char *name, const char *mode);
int BIO_free(BIO *bio);
EVP_PKEY *PEM_read_bio_PUBKEY(BIO *bio, EVP_PKEY **key, void *callback, void *argument);
EVP_PKEY_CTX *EVP_PKEY_CTX_new(EVP_PKEY *key, void *engine);
int EVP_PKEY_verify_init(EVP_PKEY_CTX *context);
int EVP_PKEY_CTX_set_rsa_padding(EVP_PKEY_CTX *context, int padding);
int EVP_PKEY_CTX_set_signature_md(EVP_PKEY_CTX *context, const EVP_MD *hash);
int EVP_PKEY_verify(EVP_PKEY_CTX *context, const char *signature, size_t length,
                    const unsigned char *digest, size_t digest_length);
const EVP_MD *EVP_sha256(void);
unsigned char *SHA256(const char *data, size_t length, unsigned char *digest);
HMAC_CTX *HMAC_CTX_new(void);
int HMAC_Init_ex(HMAC_CTX *context, const char *key, int length, const EVP_MD *hash, void *engine);
int HMAC_Update(HMAC_CTX *context, const char *data, size_t length);
int HMAC_Final(HMAC_CTX *context, unsigned char *digest, unsigned int *length);
int CRYPTO_memcmp(const void *one, const void *other, size_t length);
]]
local C = ffi.C

local digest = ffi.new("unsigned char[32]")
local ISSUER, AUDIENCE = "https://idp.example.org", "whiteboard"

local function shared(secret)
    local context = C.HMAC_CTX_new()
    assert(C.HMAC_Init_ex(context, secret, #secret, C.EVP_sha256(), nil) == 1)
    return function(message, signature)
        C.HMAC_Init_ex(context, nil, 0, nil, nil)
        C.HMAC_Update(context, message, #message)
        C.HMAC_Final(context, digest, nil)
        return #signature == 32 and C.CRYPTO_memcmp(digest, signature, 32) == 0
    end
end

-- An unsigned number as DER has it: no zeros before it, but one if it would look negative.
local function integer(bytes)
    local first = 1
    while first < #bytes and bytes:byte(first) == 0 do first = first + 1 end
    local zero = bytes:byte(first) > 127 and "\0" or ""
    local rest = zero .. bytes:sub(first)
    return "\2" .. string.char(#rest) .. rest
end

local function der(signature)
    if #signature ~= 64 then return nil end
    local both = integer(signature:sub(1, 32)) .. integer(signature:sub(33))
    return "\48" .. string.char(#both) .. both
end

local function public(path, algorithm)
    local file = C.BIO_new_file(path, "r")
    assert(file ~= nil, "no public key at " .. path)
    local key = C.PEM_read_bio_PUBKEY(file, nil, nil, nil)
    C.BIO_free(file)
    assert(key ~= nil, "no public key in " .. path)
    local context = C.EVP_PKEY_CTX_new(key, nil)
    assert(C.EVP_PKEY_verify_init(context) == 1)
    local is_rsa = algorithm == "RS256"
    if is_rsa then assert(C.EVP_PKEY_CTX_set_rsa_padding(context, 1) == 1) end
    assert(C.EVP_PKEY_CTX_set_signature_md(context, C.EVP_sha256()) == 1)
    return function(message, signature)
        if not is_rsa then signature = der(signature) end
        if not signature then return false end
        C.SHA256(message, #message, digest)
        return C.EVP_PKEY_verify(context, signature, #signature, digest, 32) == 1
    end
end

local function has(audience)
    if type(audience) ~= "table" then return audience == AUDIENCE end
    for _, one in ipairs(audience) do
        if one == AUDIENCE then return true end
    end
    return false
end

local Jwt = {}
Jwt.__index = Jwt

-- Ends the request with that status.
function Jwt.refuse(status, message, code)
    ngx.status = status
    ngx.print('{"message":"', message, '","code":"', code, '"}')
    return ngx.exit(status)
end

-- The subject of a token that holds, else nil.
function Jwt:subject(authorization)
    if not authorization or authorization:sub(1, 7) ~= "Bearer " then return nil end
    local dot = authorization:find(".", 8, true)
    local last = dot and authorization:find(".", dot + 1, true)
    if not last then return nil end
    local signature = decode(authorization:sub(last + 1))
    local head = json.decode(decode(authorization:sub(8, dot - 1)) or "")
    local claims = json.decode(decode(authorization:sub(dot + 1, last - 1)) or "")
    if type(head) ~= "table" or type(claims) ~= "table" or not signature then return nil end
    local now = ngx.time()
    local fits = head.alg == self.algorithm and claims.iss == ISSUER and has(claims.aud)
        and type(claims.exp) == "number" and now < claims.exp
        and (claims.nbf == nil or (type(claims.nbf) == "number" and claims.nbf <= now))
    if not fits or not self.verify(authorization:sub(8, last - 1), signature) then return nil end
    return claims.sub
end

-- Gives the request its caller, or refuses it.
function Jwt:authenticate()
    local caller = self:subject(ngx.var.http_authorization)
    if not caller then
        return self.refuse(401, "the token is missing or does not hold", "unauthenticated")
    end
    ngx.var.caller = caller
end

return function(algorithm, key)
    local verify = algorithm == "HS256" and shared(key) or public(key, algorithm)
    return setmetatable({ algorithm = algorithm, verify = verify }, Jwt)
end
