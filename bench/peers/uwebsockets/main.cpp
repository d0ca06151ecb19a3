// The peer `uwebsockets`: uWebSockets, speaking the protocol of ../README.md.
//
// Bound of a receiver that does not read: 4 MiB of backpressure, past which the library closes the connection.
//
// The choices, and why they are the fastest that a user of this library would write:
//
// * The library is the compiled one inside the Python package `socketify`. The builds for Node.js on npm
//   ask for a newer glibc than Debian 12 has. This program uses the library's C interface, so no Python runs.
// * A room is a topic of the library's own publish/subscribe tree, as its documentation recommends: a publish is kept
//   once and gathered, with all that a subscriber is owed, once a pass of the event loop.
// * Compression, pings and the idle timeout are off, as with every peer.
// * One thread: the library is scaled by starting one per core, and the comparison gives it one. This build of it runs
//   on libuv, as its Node.js and Python bindings do.
// * The library sets TCP_NODELAY itself. Its listen backlog is fixed at 512.

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <unordered_map>

#include "uws.h"

namespace {

constexpr int PLAIN = 0;
constexpr unsigned int BACKPRESSURE_BYTES_MAX = 4 * 1024 * 1024;
constexpr unsigned int MESSAGE_BYTES_MAX = 1024 * 1024;
constexpr size_t NAME_BYTES_MAX = 64;
constexpr int CLOSE_UNSUPPORTED_DATA = 1003;

App *app;

// Users and their connections, both ways.
std::unordered_map<std::string, Socket *> sockets;
std::unordered_map<Socket *, std::string> names;

bool is_name(std::string_view text) {
    return !text.empty() && text.size() <= NAME_BYTES_MAX && std::all_of(text.begin(), text.end(), [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '.' ||
               c == '-';
    });
}

// Frees the name of a connection unless another one has taken it since.
void logout(Socket *socket) {
    auto named = names.find(socket);
    if (named == names.end()) {
        return;
    }
    auto holder = sockets.find(named->second);
    if (holder != sockets.end() && holder->second == socket) {
        sockets.erase(holder);
    }
    names.erase(named);
}

void login(Socket *socket, std::string_view name) {
    logout(socket);
    names.emplace(socket, name);
    sockets.insert_or_assign(std::string(name), socket);
}

void send_text(Socket *socket, std::string_view message) {
    // A message beyond the bound closes the connection, and the library reports that to `close`.
    uws_ws_send(PLAIN, socket, message.data(), message.size(), OPCODE_TEXT);
}

// Carries out one command and says whether it was one.
bool obey(Socket *socket, std::string_view message) {
    const size_t first = message.find(' ');
    if (first == std::string_view::npos) {
        return false;
    }
    const size_t second = message.find(' ', first + 1);
    const bool has_text = second != std::string_view::npos;
    const std::string_view command = message.substr(0, first);
    const std::string_view name = message.substr(first + 1, has_text ? second - first - 1 : std::string_view::npos);
    if (!is_name(name)) {
        return false;
    }
    if (command == "send" && has_text) {
        uws_publish(PLAIN, app, name.data(), name.size(), message.data(), message.size(), OPCODE_TEXT, false);
    } else if (command == "direct" && has_text) {
        auto holder = sockets.find(std::string(name));
        if (holder != sockets.end()) {
            send_text(holder->second, message);
        }
    } else if (command == "login" && !has_text) {
        login(socket, name);
        send_text(socket, message);
    } else if (command == "join" && !has_text) {
        uws_ws_subscribe(PLAIN, socket, name.data(), name.size());
        send_text(socket, message);
    } else {
        return false;
    }
    return true;
}

Behaviour behaviour_with(MessageHandler message, CloseHandler close) {
    Behaviour behaviour{};
    behaviour.message_bytes_max = MESSAGE_BYTES_MAX;
    behaviour.backpressure_bytes_max = BACKPRESSURE_BYTES_MAX;
    behaviour.close_on_backpressure_limit = true;
    behaviour.message = message;
    behaviour.close = close;
    return behaviour;
}

void on_echo_message(Socket *socket, const char *message, size_t length, Opcode opcode, void *) {
    uws_ws_send(PLAIN, socket, message, length, opcode);
}

void on_rooms_message(Socket *socket, const char *message, size_t length, Opcode opcode, void *) {
    if (opcode != OPCODE_TEXT || !obey(socket, std::string_view(message, length))) {
        uws_ws_end(PLAIN, socket, CLOSE_UNSUPPORTED_DATA, "", 0);
    }
}

// The library itself takes the connection out of its topics.
void on_rooms_close(Socket *socket, int, const char *, size_t, void *) {
    logout(socket);
}

void on_listening(ListenSocket *listening, ListenConfig config, void *) {
    if (listening == nullptr) {
        std::fprintf(stderr, "cannot listen on %s:%d\n", config.host, config.port);
        std::exit(1);
    }
    std::printf("listening on ws://%s:%d\n", config.host, config.port);
    std::fflush(stdout);
}

} // namespace

int main(int count, char **arguments) {
    const std::string_view flag = count == 3 ? arguments[1] : "";
    const std::string address = count == 3 ? arguments[2] : "";
    const size_t colon = address.rfind(':');
    if (flag != "--listen" || colon == std::string::npos) {
        std::fprintf(stderr, "usage: %s --listen ADDRESS:PORT\n", arguments[0]);
        return 2;
    }
    const std::string host = address.substr(0, colon);
    const int port = std::atoi(address.c_str() + colon + 1);

    app = uws_create_app(PLAIN, TlsOptions{});
    uws_ws(PLAIN, app, "/echo", behaviour_with(on_echo_message, nullptr), nullptr);
    uws_ws(PLAIN, app, "/rooms", behaviour_with(on_rooms_message, on_rooms_close), nullptr);
    const ListenConfig listen{port, host.c_str(), LISTEN_EXCLUSIVE_PORT};
    uws_app_listen_with_config(PLAIN, app, listen, on_listening, nullptr);
    uws_app_run(PLAIN, app);
    return 0;
}
