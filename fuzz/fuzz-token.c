/* SPDX-License-Identifier: Apache-2.0 */

/* Tokens: no invented token is accepted, and claims of any form come back from a signed token unchanged. */

#include "fuzz.h"

#include <string.h>

#include "apiserver/auth/authn.h"
#include "apiserver/auth/token.h"
#include "apiserver/server.h"

static struct token_key *key;
static struct server *server;

static void set_up(void) {
	const struct authn_options options = {0};
	struct error err = {0};
	CHECK(token_key_load(&key, NULL, &err) == 0);
	CHECK(server_new(&server, NULL, NULL, &err) == 0 && authn_new(&server->auth.authn, &options, &err) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	char *text = malloc(size + 1);
	struct error err = {0};
	struct user *u = NULL;
	json_t *claims = NULL;
	if (!key)
		set_up();
	CHECK(text);
	memcpy(text, data, size);
	text[size] = '\0';
	CHECK(token_verify(key, text, &claims, &err) == -EACCES);
	CHECK(authn_token(&server->auth, text, NULL, &u, NULL, &err) == -EACCES);
	json_t *own = json_loadb(text, size, 0, NULL);
	char *token = json_is_object(own) ? token_sign(key, own, &err) : NULL;
	if (token)
		CHECK(token_verify(key, token, &claims, &err) == 0 && json_equal(own, claims));
	json_decref(claims);
	free(token);
	json_decref(own);
	free(text);
	return 0;
}
