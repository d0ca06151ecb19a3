%% A WebSocket on /echo: every message goes back as it came.
-module(echo_connection).
-behaviour(cowboy_websocket).
-export([init/2, websocket_handle/2, websocket_info/2]).

init(Request, State) ->
    {cowboy_websocket, Request, State, rooms_connection:websocket_options()}.

websocket_handle({text, _} = Message, State) ->
    {[Message], State};
websocket_handle({binary, _} = Message, State) ->
    {[Message], State};
websocket_handle(_PingOrPong, State) ->
    {[], State}.

websocket_info({'EXIT', Port, _}, State) when is_port(Port) ->
    {stop, State};
websocket_info(_Other, State) ->
    {[], State}.
